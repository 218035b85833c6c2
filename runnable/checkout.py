"""A checkout of git: its files are read, and git itself is asked one question, with a time limit.

Nothing of the repository is run: no hook, no file-system monitor, no filter, no remote helper.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

MAX_FILE: Final = 64 * 1024
MAX_PACKED_REFS: Final = 32 * 1024 * 1024
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REF: Final = re.compile(r"refs/(?!.*(?:^|/)\.\.?(?:/|$))[^\x00-\x20\x7f]+")
_PROGRAMS: Final = re.compile(r"\[\s*(?:filter|include)", re.IGNORECASE)
"""Sections of a configuration by which a repository has git run programs."""
_INHERITED: Final = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR")
_STATUS: Final = (
    *("--no-pager", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"),
    *("status", "--porcelain=v2", "--branch", "--no-ahead-behind", "--no-renames"),
    *("--untracked-files=no", "--ignore-submodules=dirty"),
)
_ENVIRONMENT: Final = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


class Changes:
    """What git is asked: which commit is checked out, and whether tracked files differ from it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        atexit.register(self._kill)  # a git that hangs must not outlive this process

    def told(self, seconds: float) -> tuple[str, str, bool] | None:
        """Commit, branch, and whether it was changed; None if git cannot tell in that time."""
        with self._process as process:
            try:
                out, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                self._kill()
                return None
            finally:
                atexit.unregister(self._kill)
        if process.returncode != 0:
            return None
        lines = out.decode("utf-8", "replace").splitlines()
        said = [line[2:].partition(" ") for line in lines if line.startswith("# branch.")]
        head = {name: value for name, _, value in said}
        commit, branch = head.get("branch.oid", ""), head.get("branch.head", "")
        return (
            commit if _COMMIT.fullmatch(commit) else "",
            "" if branch.startswith("(") else branch,
            any(not line.startswith("#") for line in lines),
        )

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Checkout(NamedTuple):
    """A folder with a repository, as git keeps it in files.

    Args:
        folder: The root of the checkout.
        git: Its own part of the repository: `.git`.
        common: What it shares with other checkouts of the repository.
    """

    folder: Path
    git: Path
    common: Path

    @classmethod
    def around(cls, folder: Path) -> Self | None:
        """The innermost checkout that a folder is in, or None."""
        for place in (folder, *folder.parents):
            git = place / ".git"
            if os.path.isfile(git):  # unlike `Path.is_file` it raises nothing
                link = _text(git).strip()
                git = place / link.removeprefix("gitdir:").strip()
            if os.path.isfile(git / "HEAD"):
                return cls(place, git, git / (_text(git / "commondir").strip() or "."))
        return None

    def head(self) -> tuple[str, str]:
        """The commit and the branch; empty where there is none."""
        text, branch = _text(self.git / "HEAD").strip(), ""
        for _ in range(5):  # so many names may one name stand for
            if not text.startswith("ref:"):
                return (text, branch) if _COMMIT.fullmatch(text) else ("", branch)
            ref = text.removeprefix("ref:").strip()
            if _REF.fullmatch(ref) is None or ref == "refs/heads/.invalid":  # kept in another way
                return "", ""
            branch = branch or ref.removeprefix("refs/heads/")
            text = (_text(self.git / ref) or _text(self.common / ref)).strip() or self._packed(ref)
        return "", branch

    def _packed(self, ref: str) -> str:
        for line in _text(self.common / "packed-refs", MAX_PACKED_REFS).splitlines():
            commit, _, name = line.partition(" ")
            if name == ref:
                return commit
        return ""

    def remote(self) -> str:
        """Where it comes from, `origin` or else the first remote, without credentials."""
        remotes = dict(reversed([*self._remotes()]))
        first = next(reversed(remotes.values()), "")
        return without_credentials(remotes.get("origin", first))

    def _remotes(self) -> Iterator[tuple[str, str]]:
        name = ""
        for line in _text(self.common / "config").splitlines():
            section = re.match(r'\s*\[\s*(?:remote\s+"([^"]*)")?', line, re.IGNORECASE)
            if section is not None:
                name = section[1] or ""
                line = line.partition("]")[2]
            url = re.match(r"\s*url\s*=\s*(.*)", line, re.IGNORECASE)
            if name and url is not None:
                yield name, url[1].strip().strip('"')

    def ask_for_changes(self) -> Changes | None:
        """Ask git, and do not wait for the answer; None if it cannot be asked without risk."""
        configured = _text(self.common / "config") + _text(self.git / "config.worktree")
        git = _program()
        if git is None or _PROGRAMS.search(configured):
            return None
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            process = subprocess.Popen(
                [git, *_STATUS],
                cwd=self.folder,
                env={**kept, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        return Changes(process)


def without_credentials(url: str) -> str:
    """A remote's address without user name, password, query and fragment.

    One in which something may still hide is empty: what follows the last `@` must be a host.

    Example:
        >>> without_credentials("https://me:t0ken@example.org/a/b.git?key=s")
        'https://example.org/a/b.git'
        >>> without_credentials("git@example.org:a/b.git")
        'example.org:a/b.git'
        >>> without_credentials("https://me:t0/ken@example.org/a")
        ''
    """
    if not url.isprintable() or " " in url:
        return ""
    url = re.sub(r"^[A-Za-z0-9+.-]+::", "", url)  # what a remote helper is to be told
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _scp_like(url)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    if "@" in path or not re.fullmatch(r"(?:[\w.-]*|\[[0-9A-Fa-f:.%]+\])(?::\d*)?", host):
        return ""
    return f"{scheme}://{host}{slash}{path}"


def _scp_like(url: str) -> str:
    """`user@host:path`, or a path."""
    if ":" not in url and "@" not in url:
        return url
    place, colon, path = url.rpartition("@")[2].partition(":")
    if not colon or "@" in path or ":" in path or not re.fullmatch(r"[\w.-]+", place):
        return ""
    return f"{place}:{path}"


def _program() -> str | None:
    """Where git is; a folder of the path that is relative may be anybody's."""
    for folder in os.get_exec_path():
        found = os.path.join(folder, "git")
        if os.path.isabs(folder) and os.access(found, os.X_OK) and os.path.isfile(found):
            return found
    return None


def _text(path: Path, limit: int = MAX_FILE) -> str:
    """The text of a small file; empty if there is none, or it is no file, or larger."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            return ""
        with open(handle, "rb", closefd=False) as file:
            return file.read(limit).decode("utf-8", "replace")
    finally:
        os.close(handle)
