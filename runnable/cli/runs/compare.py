"""`runnable runs compare`: where two runs part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.output import Configuration, Json
from runnable.cli.runs.finding import run_ids

if TYPE_CHECKING:
    from runnable.comparing import Comparison, Divergence

First = Annotated[str, typer.Argument(metavar="A", help="A run.", autocompletion=run_ids)]
Second = Annotated[str, typer.Argument(metavar="B", help="Another.", autocompletion=run_ids)]


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command("compare")(compare_runs)


def compare_runs(
    first: First, second: Second, as_json: Json = False, configuration_file: Configuration = ""
) -> None:
    """Show where two runs part: the first difference of each kind, step by step.

    Example: runnable runs compare calm-otter-0123456789 bold-heron-9876543210
    """
    from runnable.cli.output import write_json
    from runnable.cli.runs.finding import looking_in, read_log
    from runnable.comparing import compare
    from runnable.run_json import run_json

    with looking_in(configuration_file, first, second) as store:
        found = compare(run_json(read_log(store, first)), run_json(read_log(store, second)))
    if as_json:
        write_json(_json(found))
    else:
        _write(found)


def _json(found: Comparison) -> dict[str, Any]:
    def told(one: Divergence | None) -> dict[str, Any] | None:
        return None if one is None else one._asdict()

    return {
        "first": found.first,
        "second": found.second,
        "steps": found.steps,
        "same": found.same,
        "leading": told(found.leading),
        "firsts": {aspect: told(those[0]) for aspect, those in found.by_aspect().items()},
        "divergences": [told(one) for one in found.divergences],
    }


def _write(found: Comparison) -> None:
    from runnable.cli.output import add_row, new_table, write_table, write_text

    leading = found.leading
    if leading is None:
        write_text(f"{found.first} and {found.second} do not differ.")
        return
    where = f"in {leading.path}" if leading.path else "in the run itself"
    write_text(f"First difference: {leading.aspect} {where}".rstrip())
    write_text(f"  {found.first}: {_side(leading, 'first')}")
    write_text(f"  {found.second}: {_side(leading, 'second')}\n")
    table = new_table("first in", "step", "what", found.first, found.second, "more")
    for aspect, those in found.by_aspect().items():
        one = those[0]
        more = f"{len(those) - 1:,}" if len(those) > 1 else ""
        sides = _side(one, "first", 40), _side(one, "second", 40)
        add_row(table, (aspect, one.path or "(the run)", one.place, *sides, more))
    write_table(table)
    write_text(f"\nThe same in both, times left aside: {found.same:,} of {found.steps:,} steps.")


def _side(one: Divergence, which: str, limit: int = 200) -> str:
    """What one of the runs has there."""
    from runnable.cli.runs.wording import short, value_in_words

    if one.only_in and one.only_in != which:
        return "–"
    value = one.first if which == "first" else one.second
    if one.aspect == "steps":
        return f"has it ({value})"
    return short(value if isinstance(value, str) else value_in_words(value), limit)
