"""Live progress without a terminal: what it knows, what it draws, when it is shown at all."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json
from rich.cells import cell_len

from runnable.clock import Clock
from runnable.exceptions import visible
from runnable.lines import last_state, settled, split
from runnable.records import Record
from runnable.terminal import terminal
from runnable.terminal.picture import MAX_ROWS, Picture
from runnable.terminal.progress import Progress
from runnable.terminal.text import cut, cut_row


class Seconds(Clock):
    """A clock that a test sets."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


class Told:
    """A run, told record by record."""

    def __init__(self, total: int = 3, pipeline: str = "report") -> None:
        self.clock = Seconds()
        first = self.record("pipeline_started", pipeline=pipeline, total_tasks=total)
        self.progress = Progress(first, self.clock)

    def record(self, kind: str, **fields: object) -> Record:
        event = {"type": kind, "run_id": "calm-lark", **fields}
        return Record(1, kind, to_json(event))

    def tell(self, kind: str, path: str = "", at: float | None = None, **fields: object) -> Told:
        self.clock.at = self.clock.at if at is None else at
        fields = {"attempt": 1, **fields} | ({"path": path} if path else {})
        self.progress.observe([self.record(kind, **fields)])
        self.progress.catch_up()
        return self

    def done(self, *paths: str) -> Told:
        for path in paths:
            self.tell("task_started", path).tell("task_completed", path, duration=0.25)
        return self

    def drawn(self, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
        picture = Picture(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        return [line for line, _ in picture.live([self.progress], width, height)]


def test_a_run_is_drawn_with_its_steps() -> None:
    told = Told().done("load").tell("task_started", "write", at=1.0)
    told.clock.at = 76.0

    assert told.drawn() == [
        "⠋ report · calm-lark",
        "  ✓   0.2 s  load",
        "  ⠋    1:15  write",
        "  1 of 3 done · 1:16",
    ]


def test_what_a_stream_cannot_encode_is_drawn_with_other_marks() -> None:
    told = Told(pipeline="日報").done("é")
    told.tell("task_error", "b", error_type="E", error="x", will_retry=False, at=2.0)

    assert told.drawn(encoding="ascii") == [
        "| \\u65e5\\u5831, calm-lark",
        "  +   0.2 s  \\xe9",
        "  x  <0.1 s  b  E: x",
        "  1 of 3 done, 1 failed, 0:02",
    ]


def test_a_step_that_waits_for_its_next_attempt_says_why() -> None:
    told = Told().tell("task_started", "a")
    told.tell("task_error", "a", error_type="OSError", error="away\nfar", will_retry=True, at=2.0)
    assert told.drawn()[1] == "  ↻   2.0 s  a  OSError: away"

    told.tell("task_started", "a", attempt=2)
    assert told.drawn()[1] == "  ⠋  <0.1 s  a (attempt 2)"


def test_steps_of_an_earlier_life_are_counted_as_done() -> None:
    told = Told().tell("task_skipped", "a", reason="resumed").done("b")

    assert told.drawn()[1:] == [
        "  -          a  resumed",
        "  ✓   0.2 s  b",
        "  2 of 3 done · 1 of them before · 0:00",
    ]


def test_more_steps_than_the_graph_counts_have_no_total() -> None:
    assert Told(total=1).done("a", "b").drawn()[-1] == "  2 done · 0:00"


def test_what_runs_when_a_run_is_cancelled_is_told_so() -> None:
    told = Told().tell("task_started", "a").tell("pipeline_cancelled", reason="enough", at=1.0)

    assert told.drawn() == [
        "■ report · calm-lark",
        "  ■   1.0 s  a",
        "  0 of 3 done · 0:01 · cancelled: enough",
    ]


def test_a_failed_step_stays_in_sight_when_others_end_after_it() -> None:
    told = Told(total=100)
    told.tell("task_error", "bad", error_type="E", error="x", will_retry=False)
    told.done(*[f"s{i}" for i in range(50)])

    rows = told.drawn()
    assert rows[1:3] == ["  … 44 earlier", "  ✗  <0.1 s  bad  E: x"]
    assert rows[-2:] == ["  ✓   0.2 s  s49", "  50 of 100 done · 1 failed · 0:00"]


def test_records_that_nobody_reads_do_not_heap_up() -> None:
    told = Told(total=10_000)
    record = told.record("task_skipped", path="a", attempt=1, reason="resumed")
    for _ in range(10_000):
        told.progress.observe([record])

    assert len(told.progress._waiting) <= 1_000
    assert len(told.progress.recent) < 10


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(
    st.lists(names, max_size=20),
    st.lists(names, max_size=20),
    names,
    st.integers(10, 200),
    st.integers(2, 50),
    st.sampled_from(["utf-8", "ascii", "latin-1"]),
)
def test_a_picture_fits_whatever_it_shows(
    done: list[str], running: list[str], name: str, width: int, height: int, encoding: str
) -> None:
    told = Told(pipeline=name).done(*done)
    for path in running:
        told.tell("task_started", path)
    told.progress.line = name, name

    rows = told.drawn(width, height, encoding)
    assert 1 <= len(rows) <= min(MAX_ROWS, max(1, height - 2))
    assert all(cell_len(row) < width for row in rows)
    assert all(visible(row) == row and "\n" not in row for row in rows)
    "".join(rows).encode(encoding)


def test_many_runs_share_the_rows() -> None:
    picture = Picture(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    rows = picture.live([Told().progress for _ in range(50)], 80, 24)

    assert len(rows) == MAX_ROWS
    assert rows[-1][0] == "… 41 more runs"
    assert rows[0][0] == "⠋ report · 0 of 3 done · 0:00 · calm-lark"


@given(st.text())
def test_visible_text_has_no_character_that_acts_on_a_terminal(text: str) -> None:
    shown = visible(text)

    assert not [c for c in shown if c not in "\t\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
    assert visible(shown) == shown
    shown.encode()


@given(st.lists(st.text(st.sampled_from("ab\r\n"), max_size=5)))
def test_split_text_comes_out_as_it_would_have_at_once(pieces: list[str]) -> None:
    shown, rest = "", ""
    for piece in pieces:
        whole, rest = split(rest + piece)
        shown += settled(whole)

    assert shown.replace("\n", "").count("\r") == 0
    lines = "".join(pieces).split("\n")
    assert last_state(rest) == last_state(lines[-1])
    assert shown == settled("".join([f"{line}\n" for line in lines[:-1]]))


def test_a_cut_text_counts_cells() -> None:
    assert cut("読み込み", 5, "…") == "読み…"
    assert cut("abc", 3, "…") == "abc"
    assert cut("abcd", 3, "...") == "abc"
    assert cut_row([("ab", "x"), ("cdef", "y"), ("g", "z")], 5, "…") == [("ab", "x"), ("cd…", "y")]


@contextmanager
def stderr_is_a_terminal() -> Generator[TextIO]:
    """A terminal in stderr's place, after pytest has put in its own."""
    ours, theirs = pty.openpty()
    with open(theirs, "w") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield stream
    os.close(ours)


@pytest.mark.parametrize("environ", [{}, {"RUNNABLE_PROGRESS": "1"}])
def test_progress_is_shown_on_a_terminal(environ: dict[str, str]) -> None:
    with stderr_is_a_terminal() as stream:
        assert terminal({"TERM": "xterm", **environ}) is stream


@pytest.mark.parametrize(
    "environ", [{"TERM": "xterm", "RUNNABLE_PROGRESS": "0"}, {"TERM": "dumb"}, {}]
)
def test_progress_is_not_shown_where_it_is_turned_off_or_cannot_be(
    environ: dict[str, str],
) -> None:
    with stderr_is_a_terminal():
        assert terminal(environ) is None


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_progress_is_not_shown_on_what_is_no_terminal(stream: TextIO | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        assert terminal({"TERM": "xterm"}) is None


FAILING = """
    import asyncio
    from runnable import *

    def fine() -> int:
        return 3

    def inner(x):
        raise ValueError(f"only {{x}}\\nno more")

    {def_} broken(x: int):
        return inner(x)

    {def_} main():
        steps = [
            PythonTask(function=fine, name="fine", returns=["x"]),
            PythonTask(function=broken, name="broken"),
        ]
        {call}(steps=steps).execute(run_id="failing")

    {main}
"""
KINDS = {
    "sync": {"def_": "def", "call": "Pipeline", "main": "main()"},
    "async": {"def_": "async def", "call": "await AsyncPipeline", "main": "asyncio.run(main())"},
}


def ended(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """A script, run to its end without a terminal."""
    (folder / "script.py").write_text(dedent(code))
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_script_says_the_users_traceback_then_one_sentence(
    own_folder: Path, kind: str
) -> None:
    done = ended(own_folder, FAILING.format(**KINDS[kind]))

    assert (done.returncode, done.stdout) == (1, "")
    assert frames(done.stderr) == [
        "Traceback (most recent call last):",
        "script.py broken",
        "script.py inner",
        "ValueError: only 3",
        "no more",
        "The above exception was the direct cause of the following exception:",
        "Traceback (most recent call last):",
        "script.py <module>",
        *(ASYNCIO if kind == "async" else ()),
        "script.py main",
        "calls.py execute",
        SENTENCE,
    ]


SENTENCE = (
    "runnable.exceptions.ExecutionFailedError: Step 'broken' failed: ValueError: only 3. "
    "Resume with pipeline.execute(resume='failing'), or, for a script, with "
    "RUNNABLE_RETRY_RUN_ID=failing python script.py"
)
ASYNCIO = ("runners.py run", "runners.py run", "base_events.py run_until_complete")


def frames(text: str) -> list[str]:
    """All lines of a traceback, a frame as its file and function, without its code."""
    lines: list[str] = []
    for line in text.splitlines():
        if found := re.match(r'  File ".*?([^/]+)", line \d+, in (.+)', line):
            lines.append(f"{found[1]} {found[2]}")
        elif line and not line.startswith("    "):
            lines.append(line)
    return lines


def test_nothing_that_draws_is_loaded_without_a_terminal(own_folder: Path) -> None:
    code = FAILING.format(**KINDS["sync"]).replace('raise ValueError(f"only {x}\\nno more")', "...")
    done = ended(own_folder, code + "\n    import sys\n    print(*sys.modules)\n")

    assert done.stderr == ""
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("runnable.terminal")} == {
        "runnable.terminal"
    }
