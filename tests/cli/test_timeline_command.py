"""`timeline`: in a pipe, in a real terminal, and as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runnable import ExecutionFailedError, Map, Pipeline, PythonTask
from tests.cli.called import PROJECT, call
from tests.integration.tmux import Tmux

COMMAND = """
    import runpy
    sys.argv = ["runnable", "timeline", "one", "--all"]
    runpy.run_module("runnable", run_name="__main__")
"""


def fetch(page: int) -> int:
    if page == 2:
        raise ValueError("<b>gone</b>\x1b[31m")
    return page


@pytest.fixture
def run(own_folder: Path) -> str:
    """A failed run of a map."""
    branch = Pipeline(steps=[PythonTask(function=fetch, name="fetch [red]", returns=["got"])])
    step = Map(name="pages", branch=branch, iterate_on="pages", iterate_as="page")
    with pytest.raises(ExecutionFailedError):
        Pipeline(name="night", steps=[step]).execute({"pages": [1, 2, 3]}, run_id="one")
    return "one"


@pytest.fixture
def terminal(own_folder: Path) -> Iterator[Callable[[int], Tmux]]:
    """Opens terminals of some width."""
    opened: list[Tmux] = []

    def open_one(width: int) -> Tmux:
        opened.append(Tmux(own_folder, width=width, height=20))
        return opened[-1]

    yield open_one
    for one in opened:
        one.kill()


def test_a_pipe_gets_text_without_colours(run: str) -> None:
    said = call("timeline", run, COLUMNS="70")
    lines = said.out.splitlines()

    assert said.status == 0
    assert lines[0].startswith("Run one of night: fail, ")
    marks = [line[:25].rstrip() for line in lines[2:6]]
    assert marks == [
        "✗ pages",
        "✓   0.fetch [red]",
        "✗   1.fetch [red]",
        "✓   2.fetch [red]",
    ]
    assert max(map(len, lines)) <= 70
    assert "\x1b" not in said.out


@pytest.mark.parametrize("plain", [True, False])
def test_a_terminal_is_filled_and_coloured_unless_it_is_not_to_be(
    run: str, terminal: Callable[[int], Tmux], plain: bool
) -> None:
    tmux = terminal(64)
    environ = {"PYTHONPATH": str(PROJECT), **({"NO_COLOR": "1"} if plain else {})}
    tmux.run(COMMAND, environ=environ)
    screen = tmux.ended()

    rows = [line for line in screen.splitlines() if "fetch [red]" in line]
    assert [row[0] for row in rows] == ["✓", "✗", "✓"]
    assert 60 <= max(map(len, rows)) <= 64
    raw = tmux.raw.read_bytes()
    assert (b"\x1b[1;31m" in raw, b"\x1b[32m" in raw) == (not plain, not plain)


def test_bars_are_given_as_data(run: str) -> None:
    told = call("timeline", run, "--json").json

    assert [(step["path"], step["depth"], step["status"]) for step in told["steps"]] == [
        ("pages", 0, "fail"),
        ("pages.0.fetch [red]", 1, "success"),
        ("pages.1.fetch [red]", 1, "fail"),
        ("pages.2.fetch [red]", 1, "success"),
    ]
    for step in told["steps"]:
        for bar in step["bars"]:
            assert 0 <= bar["start"] <= bar["end"] <= told["seconds"] + 0.001


def test_a_page_is_written_and_said_to_be(run: str, own_folder: Path) -> None:
    said = call("timeline", run, "--html", "page.html")
    assert said == ("", "The timeline is in page.html.\n", 0)
    page = (own_folder / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "<b>gone" not in page
    assert call("timeline", run, "--html", "none/page.html").status == 1
