"""Secrets from a `.env` file."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from runnable.defaults import LOGGER_NAME, MAX_YAML_BYTES
from runnable.exceptions import LimitError, SecretsError
from runnable.secrets import BaseSecrets

logger = logging.getLogger(LOGGER_NAME)

_BLANK: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*\Z)?")
_NAME: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=([ \t]*)")
_QUOTED: Final = {
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
}
_REST: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT: Final = re.compile(r"[ \t]+#.*")
_ESCAPE: Final = {"'": re.compile(r"\\([\\'])"), '"': re.compile(r"\\([\\'\"abfnrtv])")}
_MEANING: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class DotenvSecrets(BaseSecrets):
    """A secret is a line `NAME=value` of a file, which is read when the first one is asked for.

    Values are as a shell reads them, but nothing is put into them: a `$` is a `$`.

    Args:
        location: The file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, ".env")
        ...     file.touch(mode=0o600)
        ...     _ = file.write_text("export TOKEN='$ecret'  # of the shop")
        ...     DotenvSecrets(location=file).get("TOKEN")
        '$ecret'
    """

    service_name: ClassVar[str] = "dotenv"

    location: Path = Path(".env")

    @property
    def where(self) -> str:
        """The file, and whether there is one."""
        there = "" if self.location.exists() else ", which is not there"
        return f"{self.location}{there}"

    def get(self, name: str) -> str | None:
        """The value in the file, or None; None too if there is no file.

        Raises:
            SecretsError: If the file cannot be read, or a line of it cannot; the error names it.
        """
        return self._values.get(name)

    @cached_property
    def _values(self) -> Mapping[str, str]:
        try:
            return parse(_text(self.location), str(self.location))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SecretsError(
                str(self.location), f"it cannot be read ({error.strerror})"
            ) from error


def parse(text: str, where: str) -> dict[str, str]:
    """Name → value of each line; of two with one name the later counts.

    Args:
        text: What is in the file.
        where: The file, for the error.

    Raises:
        SecretsError: If a line is no `NAME=value`. What it holds is not told: it may be secret.

    Example:
        >>> parse('A = 1 # one\\nexport B="two\\\\nlines"\\nC=', ".env")
        {'A': '1', 'B': 'two\\nlines', 'C': ''}
    """
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    at = _end(_BLANK, text, 0)
    while at < len(text):
        named = _NAME.match(text, at)
        if named is None:
            raise _error(where, text, at, "it is no NAME=value")
        value, at = _value(text, named.end(), bool(named[2]), where)
        found[named[1]] = value
        at = _end(_BLANK, text, at)
    return found


def _value(text: str, at: int, spaced: bool, where: str) -> tuple[str, int]:
    """The value that begins there, and where what follows its line begins."""
    quote = text[at : at + 1]
    if quote not in _QUOTED:
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        plain = "" if spaced and line.startswith("#") else _COMMENT.sub("", line)
        return plain.strip(), len(text) if end < 0 else end + 1
    quoted = _QUOTED[quote].match(text, at)
    if quoted is None:
        raise _error(where, text, at, f"its value begins with {quote} and does not end with it")
    rest = _REST.match(text, quoted.end())
    if rest is None:
        raise _error(
            where, text, quoted.end(), f"something follows the {quote} that ends its value"
        )
    value = _ESCAPE[quote].sub(lambda found: _MEANING.get(found[1], found[1]), quoted[1])
    return value, rest.end()


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _error(where: str, text: str, at: int, reason: str) -> SecretsError:
    line = text.count("\n", 0, at) + 1
    advice = "Write it as NAME=value, NAME=\"value\" or NAME='value', or as a comment after #."
    return SecretsError(f"{where}:{line}", reason, advice)


def _text(path: Path) -> str:
    """The text of the file; with a warning if every user may read it.

    Raises:
        OSError: If it cannot be read.
        SecretsError: If it is no file, or no text.
        LimitError: If it is over 1 MiB.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise SecretsError(str(path), "it is not a file")
        with open(handle, "rb", closefd=False) as file:
            content = file.read(MAX_YAML_BYTES + 1)
    finally:
        os.close(handle)
    if found.st_mode & stat.S_IROTH:
        logger.warning("Every user may read the secrets in %s: run chmod 600 on it.", path)
    if len(content) > MAX_YAML_BYTES:
        what = f"The file of secrets {str(path)!r}"
        raise LimitError(what, found.st_size, MAX_YAML_BYTES, "bytes", "Keep only secrets in it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SecretsError(f"{path}:{line}", "it is not UTF-8") from None
    if "\0" in text:
        raise SecretsError(str(path), "it holds a null character, which no secret can")
    return text
