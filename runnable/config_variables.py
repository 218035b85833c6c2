"""The variables of the environment that say something of a section: `RUNNABLE_<SECTION>_<KEY>`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from runnable.exceptions import ConfigurationError, nearest

SECTIONS: Final = (
    "pipeline-executor",
    "job-executor",
    "run-log-store",
    "catalog",
    "secrets",
    "pickler",
)
_SECRET_KEY: Final = re.compile(
    r"(?!.*_file$).*(pass|secret|token|key|credential|dsn|auth|private)", re.IGNORECASE
)
_PREFIX: Final = "RUNNABLE_"
_WORDS: Final = {name.replace("-", "_").upper(): name for name in SECTIONS}
_ALIKE: Final = 0.8
"""How like a section's name the beginning of another variable is for it to be a mistake, of 1."""


class Variable(NamedTuple):
    """A variable of the environment."""

    name: str
    text: str


def given_by_variables(
    names: Iterable[str], environ: Mapping[str, str]
) -> dict[str, dict[str, Variable]]:
    """What variables say of sections: section → key, in lower case → variable.

    One that is set to nothing counts as not set.

    Args:
        names: Of variables that begin with `RUNNABLE_` and are not known to mean something else.
        environ: What they hold.

    Raises:
        ConfigurationError: If one is not about a section, but much like one that is.

    Example:
        >>> environ = {"RUNNABLE_CATALOG_TYPE": "s3"}
        >>> given_by_variables(environ, environ)
        {'catalog': {'type': Variable(name='RUNNABLE_CATALOG_TYPE', text='s3')}}
    """
    found: dict[str, dict[str, Variable]] = {}
    for name in names:
        section, key = split(name)
        if not section:
            _refuse_if_meant(name)
        elif environ[name]:
            found.setdefault(section, {})[key.lower()] = Variable(name, environ[name])
    return found


def split(name: str) -> tuple[str, str]:
    """The section and the rest of a variable's name; empty texts if it is about none.

    Example:
        >>> split("RUNNABLE_RUN_LOG_STORE_PATH"), split("RUNNABLE_KEY")
        (('run-log-store', 'PATH'), ('', ''))
    """
    rest = name.removeprefix(_PREFIX)
    for words, section in _WORDS.items():
        key = rest.removeprefix(f"{words}_")
        if key and key != rest and key == key.upper():
            return section, key
    return "", ""


def is_secret_key(key: str) -> bool:
    """Whether the value of a key is not to be shown, by the key's name.

    Example:
        >>> [is_secret_key(key) for key in ("secret_access_key", "dsn", "bucket", "key_file")]
        [True, True, False, False]
    """
    return _SECRET_KEY.match(key) is not None


def is_secret(name: str) -> bool:
    """Whether a variable gives a section such a key: a step's child process does not get it.

    Example:
        >>> is_secret("RUNNABLE_CATALOG_SECRET_ACCESS_KEY"), is_secret("RUNNABLE_CATALOG_BUCKET")
        (True, False)
    """
    return name.startswith(_PREFIX) and is_secret_key(split(name)[1])


def variable_of(section: str, key: str) -> str:
    """The variable that gives a key of a section.

    Example:
        >>> variable_of("run-log-store", "store_patience")
        'RUNNABLE_RUN_LOG_STORE_STORE_PATIENCE'
    """
    return f"{_PREFIX}{section}_{key}".replace("-", "_").upper()


def _refuse_if_meant(name: str) -> None:
    """Raise if it seems to be about a section; others may have variables that begin like ours."""
    parts = name.removeprefix(_PREFIX).upper().split("_")
    ends = range(1, len(parts) + 1)
    found = [
        (_likeness("_".join(parts[:end]), words), words, end) for words in _WORDS for end in ends
    ]
    likeness, words, end = max(found)
    if likeness < _ALIKE:
        return
    meant = variable_of(_WORDS[words], "_".join(parts[end:]) or "type")
    sections = ", ".join(nearest(_WORDS[words], SECTIONS))
    raise ConfigurationError(
        name, f"there is no such variable; {meant} is one like it (the sections are: {sections})"
    )


def _likeness(words: str, section: str) -> float:
    """How like a section's name something is, from 0 to 1; its last words are like enough."""
    import difflib

    if words and section.endswith(f"_{words}"):
        return _ALIKE
    return difflib.SequenceMatcher(None, words, section).ratio()
