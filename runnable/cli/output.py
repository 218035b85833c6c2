"""What commands write: data on stdout, as JSON or for people; talk on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

UNCUT: Final = 10_000
"""Columns of what is no terminal."""
_DIGITS: Final = 6
"""`COLUMNS` that has as many is not meant as a width."""
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs, not for people.")]
"""The option that each command has."""
Configuration = Annotated[
    str, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")
]
"""The option of each command that needs a store."""


def prepare_streams() -> None:
    """Make stdin, stdout and stderr fit for any text, whatever the process was started with.

    A descriptor that is closed would be taken by the next file that is opened, which would then
    get what is printed. What an encoding cannot express is escaped: no locale breaks a command.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and (
            stream.errors == "strict" or stream.encoding.lower() != "utf-8"
        ):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def writing() -> Generator[None, None, None]:
    """Tell in one sentence that stdout cannot be written; that its reader is gone is no error.

    Raises:
        InputError: If it cannot, as on a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as problem:
        from runnable.exceptions import InputError

        # What is buffered cannot go anywhere, and would fail once more when the process ends.
        with suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        raise InputError(f"stdout cannot be written: {problem.strerror}.") from problem


def flush() -> None:
    """Write what is buffered for stdout now, while what goes wrong can be told."""
    with writing():
        sys.stdout.flush()


def write_json(value: object) -> None:
    """Write one JSON document and a newline on stdout, in UTF-8 whatever the terminal has."""
    from pydantic_core import to_json

    write_bytes((to_json(value, indent=2), b"\n"))


def write_json_line(line: bytes) -> None:
    """Write one line of JSON on stdout, at once: whoever reads it live waits for it."""
    write_bytes((line, b"\n"))


def write_lines(lines: Iterable[bytes]) -> None:
    """Write many lines, without holding them and without a system call for each."""
    write_bytes(line + b"\n" for line in lines)


def write_bytes(pieces: Iterable[bytes]) -> None:
    """Write bytes on stdout, after what was written there as text."""
    with writing():
        sys.stdout.flush()
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()


def write_file(pieces: Iterable[bytes], path: Path) -> None:
    """Write a file beside its place, and put it there at the end: nobody meets half of it.

    Raises:
        InputError: If it cannot be written there.
    """
    from runnable.exceptions import InputError

    beside = (path := path.resolve()).with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():  # a pipe or a device: nothing takes its place
            with path.open("wb") as file:
                file.writelines(pieces)
            return
        try:
            with beside.open("xb") as file:
                file.writelines(pieces)
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
    except OSError as problem:
        raise InputError(f"{path} cannot be written: {problem.strerror}.") from problem


def write_text(text: str) -> None:
    """Write text and a newline on stdout."""
    with writing():
        print(text)  # noqa: T201


def write_table(table: Table) -> None:
    """Write a table on stdout, in colours where it is a terminal and `NO_COLOR` is not set.

    Off a terminal nothing of it is cut, however wide `COLUMNS` says that one is.
    """
    out = console()
    if sys.stdout.isatty():
        with writing():
            out.print(table)
        return
    out.width = UNCUT
    with writing(), out.capture() as drawn:  # what was printed before may be written now
        out.print(table)
    write_text("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def tell(text: str) -> None:
    """Say something to the person at the terminal, on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def new_table(*columns: str) -> Table:
    """A table with these columns, without frames, so that it can be copied."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, show_edge=False, header_style="bold")


def add_row(table: Table, cells: Sequence[str]) -> None:
    """Add a row of plain text: control characters are made visible, markup is not read."""
    from rich.text import Text

    from runnable.exceptions import visible

    table.add_row(*(Text(visible(cell)) for cell in cells))


def console() -> Console:
    """The console that writes on stdout; off a terminal its lines are not cut."""
    from rich.console import Console

    is_terminal = sys.stdout.isatty()
    text = os.environ.get("COLUMNS", "")
    columns = (int(text) or None) if text.isdecimal() and len(text) < _DIGITS else None
    return Console(width=columns if is_terminal or columns else UNCUT, soft_wrap=not is_terminal)
