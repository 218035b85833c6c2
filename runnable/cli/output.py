"""What commands write: data on stdout, as JSON or for people; talk on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

UNCUT: Final = 10_000
"""Columns of what is no terminal."""
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs, not for people.")]
"""The option that each command has."""
Configuration = Annotated[
    str, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")
]
"""The option of each command that needs a store."""


def write_json(value: object) -> None:
    """Write one JSON document and a newline on stdout."""
    from pydantic_core import to_json

    write_text(to_json(value, indent=2).decode())


def write_json_line(line: bytes) -> None:
    """Write one line of JSON on stdout, at once: whoever reads it live waits for it."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def write_lines(lines: Iterable[bytes]) -> None:
    """Write many lines, without holding them and without a system call for each."""
    write_bytes(line + b"\n" for line in lines)


def write_bytes(pieces: Iterable[bytes]) -> None:
    """Write bytes on stdout, after what was written there as text."""
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
    print(text)  # noqa: T201


def write_table(table: Table) -> None:
    """Write a table on stdout, in colours where it is a terminal and `NO_COLOR` is not set.

    Off a terminal nothing of it is cut, however wide `COLUMNS` says that one is.
    """
    out = console()
    if sys.stdout.isatty():
        out.print(table)
        return
    out.width = UNCUT
    with out.capture() as drawn:
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
    columns = int(os.environ.get("COLUMNS") or 0) or None
    return Console(width=columns if is_terminal or columns else UNCUT, soft_wrap=not is_terminal)
