"""What a run log and a pipeline show of themselves: short, harmless, the same in text and HTML."""

from __future__ import annotations

import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from runnable import AsyncPipeline, Pipeline, PythonTask, Stub, metric, pickled
from runnable.clock import iso
from runnable.records import Record
from runnable.runlog import RunLog, fold
from runnable.showing import MAX_CELL, Page, Table, in_words, printable
from tests.debian import need

VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
NAMES = st.text(min_size=1, max_size=40)


class Told:
    """Records of one run, a second each."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.epoch = 0

    def write(self, kind: str, facts: dict[str, Any], values: object = None) -> Told:
        seq = len(self.records) + 1
        at = iso(1_700_000_000_000_000 + seq * 1_000_000).decode()
        head = {"type": kind, "run_id": "monday", "timestamp": at, "seq": seq}
        self.records.append(Record(seq, kind, to_json(head | facts), to_json(values)))
        return self

    def begin(self, pipeline: str = "Report", **parameters: object) -> Told:
        self.epoch += 1
        facts = {"epoch": self.epoch, "resumed": self.epoch > 1, "pipeline": pipeline, "tag": ""}
        stored = {name: {"kind": "json", "value": value} for name, value in parameters.items()}
        return self.write("pipeline_started", facts | {"total_tasks": 3}, {"parameters": stored})

    def start(self, path: str, attempt: int = 1) -> Told:
        facts = {"task_name": path, "path": path, "attempt": attempt}
        return self.write("task_started", facts | {"inputs": {}, "voids_chunks": False})

    def complete(self, path: str, attempt: int = 1, **stored: object) -> Told:
        facts = {"task_name": path, "path": path, "attempt": attempt, "duration": 0.1234}
        return self.write(
            "task_completed", facts | {"outputs": {}, "metrics": {}}, {"outputs": stored}
        )

    def fail(self, path: str, error: str, attempt: int = 1) -> Told:
        facts = {"task_name": path, "path": path, "attempt": attempt, "error": error[:10]}
        facts |= {"error_type": "ValueError", "will_retry": False, "abandoned": False}
        return self.write("task_error", facts, {"error": error, "duration": 184.0})

    def end(self, kind: str, **facts: object) -> Told:
        return self.write(kind, facts)

    def failed(self, path: str, error: str) -> Told:
        return self.end("pipeline_error", error=error, error_type="ValueError", path=path)

    @property
    def log(self) -> RunLog:
        return fold(self.records)


def text_of(thing: Any) -> str:
    return thing._repr_mimebundle_()["text/plain"]


def html_of(thing: Any) -> str:
    return thing._repr_mimebundle_()["text/html"]


class Tree(HTMLParser):
    """Checks that every tag is closed in its place, and keeps the cells."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "img":  # it has no end
            self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.cells[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data!r}")


def load() -> tuple[list[int], float]:
    return [1], 0.25


def total(numbers: list[int]) -> tuple[int, object]:
    return sum(numbers), object()


def test_a_run_that_failed_shows_its_steps_and_values_as_text() -> None:
    told = Told().begin(url="u").start("load")
    big = {"kind": "json", "blob": "d", "size": 300_000}
    model = {"kind": "object", "blob": "e", "size": 37, "type": "sklearn.Model"}
    told.complete("load", rows=big, model=model, loss={"kind": "metric", "value": 0.25})
    told.start("total").fail("total", "no such\nthing").start("total", 2)
    told.fail("total", "no such\nthing", 2).failed("total", "no such\nthing")

    assert text_of(told.log) == dedent("""\
        Run monday: fail
          pipeline  Report
          started   2023-11-14 22:13:21 UTC
          duration  7.00 s
          steps     1 success, 1 fail
          error     total: ValueError: no such

          step   status   attempts  time       error
          load   success  1         0.12 s
          total  fail     2         3 min 4 s  ValueError: no such

        metrics
          loss  0.25

        parameters
          url    "u"
          rows   <JSON, 300,000 bytes>
          model  <sklearn.Model, pickled, 37 bytes>""")


def test_a_pipeline_shows_its_steps_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (load, total):
        monkeypatch.setattr(function, "__module__", "__main__")  # as in a cell
    steps = [
        PythonTask(
            function=load,
            name="load",
            returns=["numbers", metric("loss")],
            on_failure=Pipeline(steps=[Stub(name="mend")]),
        ),
        PythonTask(
            function=total, name="total", returns=["sum", pickled("it")], retries=2, timeout=90
        ),
    ]
    pipeline = Pipeline(steps=steps, name="Report", description="Adds up")

    assert text_of(pipeline) == (
        "Pipeline Report\n"
        "  description  Adds up\n"
        "\n"
        "  step                  kind    function  returns                 next     retries  "
        "timeout\n"
        "  load                  python  load      numbers, loss (metric)  total\n"
        "  load.on_failure.mend  stub                                      success\n"
        "  total                 python  total     sum, it (pickled)       success  2        "
        "1 min 30 s"
    )


def test_columns_of_a_pipeline_that_say_nothing_are_left_out() -> None:
    assert Tree(html_of(AsyncPipeline(steps=[Stub(name="a")]))).cells == [
        *("step", "kind", "next"),
        *("a", "stub", "success"),
    ]


@pytest.mark.parametrize(
    ("told", "line", "status"),
    [
        (Told(), "RunLog(running, 0 steps)", "Run: running"),
        (
            Told().begin().start("a"),
            "RunLog('monday', pipeline='Report', running, 1 step)",
            "Run monday: running",
        ),
        (
            Told().begin().start("a").end("pipeline_cancelled", reason="asked for"),
            "RunLog('monday', pipeline='Report', cancelled, 1 step, 2.00 s, error='asked for')",
            "Run monday: cancelled",
        ),
        (
            Told().begin().start("a").fail("a", "no").failed("a", "no"),
            "RunLog('monday', pipeline='Report', fail, 1 step, 3.00 s, error='a: ValueError: no')",
            "Run monday: fail",
        ),
    ],
    ids=["empty", "running", "cancelled", "failed"],
)
def test_a_run_reads_well_whatever_became_of_it(told: Told, line: str, status: str) -> None:
    assert repr(told.log) == line
    assert text_of(told.log).splitlines()[0] == status
    assert status in html_of(told.log)


def test_a_cancelled_run_says_why() -> None:
    log = Told().begin().start("a").end("pipeline_cancelled", reason="asked for").log
    assert "  reason    asked for" in text_of(log).splitlines()
    assert "  a     cancelled  1         –" in text_of(log).splitlines()


def test_an_interrupted_run_has_no_duration() -> None:
    log = Told().begin().start("a").log
    log.interrupt()
    assert repr(log) == "RunLog('monday', pipeline='Report', interrupted, 1 step)"
    assert "  a     interrupted  1         –" in text_of(log).splitlines()


def test_a_resumed_run_says_so_and_which_steps_it_kept() -> None:
    told = Told().begin().start("a").complete("a").start("b").begin()
    told.write("task_skipped", {"task_name": "a", "path": "a", "attempt": 1, "reason": "resumed"})
    told.start("b", 2).complete("b", 2).end("pipeline_completed")
    lines = text_of(told.log).splitlines()
    assert "  resumed   once" in lines
    assert "  a     success (resumed)  1         0.12 s" in lines
    assert "  b     success            2         0.12 s" in lines


class Never:
    """A pickler that nothing may use."""

    def check(self, *_: object) -> None:
        raise AssertionError("nothing is unpickled for showing")

    def loads(self, data: bytes) -> object:
        raise AssertionError("nothing is unpickled for showing")


@pytest.mark.parametrize("show", [repr, text_of, html_of])
def test_a_run_log_that_was_put_off_is_folded_to_be_shown(show: Any) -> None:
    told = Told().begin().start("a").complete("a").end("pipeline_completed")

    def never(*_: object) -> Any:
        raise AssertionError("nothing is read for showing")

    assert show(RunLog.put_off(told.records, None, never, Never())) == show(told.log)


def test_what_did_not_succeed_survives_the_cut() -> None:
    told = Told().begin()
    for number in range(10_000):
        told.start(f"s{number}")
        if number in (7_000, 9_000):
            told.fail(f"s{number}", "no")
        elif number != 9_999:
            told.complete(f"s{number}")
    log = told.log
    lines = text_of(log).splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  s") and "attempts" not in line]
    assert shown == ["started", "steps", *(f"s{n}" for n in range(47)), "s7000", "s9000", "s9999"]
    assert lines[-1] == "  … 9,950 more"
    assert "… 9,950 more" in html_of(log)
    assert len(repr(log)) < 200
    assert len(html_of(log)) < 50_000


def test_long_values_and_many_of_them_are_cut() -> None:
    log = Told().begin(**{f"p{number}": "x" * 100_000 for number in range(100)}).log
    assert "  … 80 more" in text_of(log).splitlines()
    assert max(map(len, text_of(log).splitlines())) < MAX_CELL + 20
    assert len(html_of(log)) < 20_000


def test_what_cannot_be_printed_is_shown_as_an_escape() -> None:
    told = Told().begin(text="\x1b[31mred").start("a").fail("a", "\x1b[2J\u202egone")
    text = text_of(told.log)
    assert text.replace("\n", "").isprintable()
    assert "ValueError: \\x1b[2J\\u202egone" in text
    assert html_of(told.log).isprintable()


def test_a_pipeline_reads_well_on_one_line() -> None:
    few = Pipeline(steps=[Stub(name="a"), Stub(name="b")], name="Report")
    many = AsyncPipeline(steps=[Stub(name=f"s{number}") for number in range(1_000)])
    assert repr(few) == str(few) == "Pipeline('Report': a >> b)"
    assert repr(many) == "AsyncPipeline(s0 >> s1 >> s2 >> s3 >> s4 >> … 995 more)"


TEXTS = {"text/plain", "text/html"}
PICTURES = {"image/svg+xml", "text/vnd.mermaid"}


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Graphviz on PATH."""
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture(scope="module")
def dot() -> str:
    """Graphviz on PATH."""
    return need("dot", "graphviz")


def ran() -> RunLog:
    """The run log of a pipeline."""
    return Pipeline(steps=[Stub(name='<b>"a'), Stub(name="b")]).execute()


def test_only_the_types_that_are_asked_for_are_given(dot: str) -> None:
    for thing in (ran(), AsyncPipeline(steps=[Stub(name="a")])):
        show = thing._repr_mimebundle_
        every = TEXTS | PICTURES
        assert set(show()) == set(show(include=None, exclude=None)) == every
        assert set(show(set(), set())) == every
        assert set(show(include={"text/html", "image/png"})) == {"text/html"}
        assert set(show(exclude=["text/html"])) == every - {"text/html"}
        assert show(include=every, exclude=every) == {}


def test_a_page_shows_the_picture_as_an_image_above_the_tables(dot: str) -> None:
    run = ran()
    bundle = run._repr_mimebundle_()
    html = bundle["text/html"]
    tree = Tree(html)
    [coded] = re.findall(r'<img [^>]*src="data:image/svg\+xml;base64,([\w+/=]+)">', html)

    assert b64decode(coded).decode() == bundle["image/svg+xml"]
    assert html.index("<img") < html.index(">step<")
    assert tree.tags == {"div", "p", "b", "img", "table", "tr", "td", "th"}
    assert tree.attributes == {"style", "alt", "src"}
    assert bundle["text/vnd.mermaid"] == run.to_mermaid()
    assert "&lt;b&gt;&quot;a" in bundle["image/svg+xml"]


@pytest.mark.usefixtures("no_dot")
def test_without_graphviz_the_tables_are_as_they_were() -> None:
    bundle = ran()._repr_mimebundle_()
    assert set(bundle) == TEXTS | {"text/vnd.mermaid"}
    assert "<img" not in bundle["text/html"]


def test_what_is_too_large_or_unknown_has_no_picture(dot: str) -> None:
    many = Pipeline(steps=[Stub(name=f"s{number}") for number in range(1_000)])
    assert set(many._repr_mimebundle_()) == set(RunLog()._repr_mimebundle_()) == TEXTS


def test_graphviz_is_not_asked_for_text(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = own_folder / "dot"
    program.write_text('#!/bin/sh\necho asked >> "$0.log"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own_folder}")
    run = ran()
    run._repr_mimebundle_(include={"text/plain"})
    assert not (own_folder / "dot.log").exists()
    run._repr_mimebundle_()
    assert (own_folder / "dot.log").read_text() == "asked\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3.0, "0 s"),
        (0.0, "0 s"),
        (0.0099, "9.9 ms"),
        (0.12, "0.12 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3_599.9, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_written_for_people(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@given(st.lists(st.tuples(NAMES, st.text(), VALUES), max_size=6), st.text(), VALUES)
def test_no_text_becomes_a_tag(
    steps: list[tuple[str, str, str]], error: str, parameter: str
) -> None:
    clean = [(printable(path), printable(text), value) for path, text, value in steps]
    told = Told().begin(printable(error), **{f"p{error!a}": parameter, "<b>": [parameter]})
    for path, text, value in clean:
        told.start(path).complete(path, out={"kind": "metric", "value": value})
        told.start(path).fail(path, text)
    log = told.failed(printable(error), printable(error)).log
    tree = Tree(html_of(log))
    assert tree.tags <= {"div", "p", "b", "table", "caption", "tr", "td", "th"}
    assert tree.attributes <= {"style", "colspan"}
    shown = set(tree.cells)
    assert {printable(path[: MAX_CELL - 1]) for path, _, _ in clean} <= shown


@given(
    title=st.text(),
    facts=st.lists(st.tuples(st.text(), st.text())),
    rows=st.lists(st.tuples(st.text(), st.text())),
)
def test_the_cells_of_the_html_are_the_texts_that_were_given(
    title: str, facts: list[tuple[str, str]], rows: list[tuple[str, str]]
) -> None:
    page = Page(title, facts, [Table(("<a>", "b"), rows)])
    tree = Tree(page.html())
    given_cells = [cell for row in (*facts, ("<a>", "b"), *rows) for cell in row]
    assert tree.cells == [printable(cell) for cell in given_cells]
    assert tree.tags <= {"div", "p", "b", "table", "tr", "td", "th"}
    page.html().encode()
    page.text().encode()
