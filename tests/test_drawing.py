"""Pictures of graphs and runs: what is drawn, that names are never markup, what Graphviz makes."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections import Counter
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runnable import AsyncPipeline, ExecutionFailedError, Pipeline, PythonTask, Stub, drawing
from runnable.config import load_services
from runnable.drawing import MAX_DRAWN, Picture
from runnable.runlog import RunLog, fold
from runnable.showing import printable
from tests.debian import need

Graph = dict[str, Any]

NASTY = [
    *('a"b', "end", "x;y", "#1", "&amp;", "<b>", "`code`", "a\\nb", "tail\\", "-->", "{a}", "[a]"),
    *(
        "direction TB",
        'style:"a"#b;',
        ":::class",
        "%%{init: {}}%%",
        "ﬂ°°35¶ß",
        "fa:fa-car",
        "$$x$$",
    ),
    *("日本語", "graph TD", "\u202ea", "on_failure", "success", "a\x1b[31m", "||", "**a**"),
]


def task(next_step: str = "success", **branches: Graph) -> Graph:
    step: Graph = {"type": "task", "task": "python", "returns": [], "next": next_step}
    return step | {"branches": branches} if branches else step


def chain(**steps: Graph) -> Graph:
    """Steps one after the other; what the last one leads to is its own."""
    names = [*steps]
    for name, after in pairwise(names):
        steps[name] = steps[name] | {"next": after}
    return {"start_at": names[0], "steps": steps}


def over(items: str, branch: Graph, next_step: str = "success", **more: Graph) -> Graph:
    facts = {"type": "map", "iterate_on": items, "iterate_as": "item", "next": next_step}
    return facts | {"branches": {"*": branch} | more}


def lines_of(structure: Graph, states: dict[str, str] | None = None) -> list[str]:
    return [line.strip() for line in Picture(structure, states).mermaid().splitlines()[1:]]


def test_steps_ends_and_what_runs_after_a_failure_are_drawn() -> None:
    mend = Pipeline(steps=[Stub(name="tell")])
    pipeline = Pipeline(steps=[Stub(name="load", on_failure=mend), Stub(name="report")])

    assert lines_of(pipeline.return_dag().structure) == [
        'n0("load")',
        'n1("report")',
        'n4(["success"])',
        'subgraph n2["if load fails"]',
        'n3("tell")',
        "end",
        "n0 --> n1",
        "n3 --> n4",
        "n0 -.-> n3",
        "n1 --> n4",
        "classDef aside stroke-dasharray:5 5",
        "class n2 aside",
    ]


def test_the_fail_end_is_drawn_where_something_leads_to_it() -> None:
    to_fail = Pipeline(steps=[Stub(name="a", terminate_with_failure=True)]).to_mermaid()
    to_success = Pipeline(steps=[Stub(name="a")]).to_mermaid()

    assert ('(["fail"])' in to_fail, '(["success"])' in to_fail) == (True, False)
    assert ('(["fail"])' in to_success, '(["success"])' in to_success) == (False, True)


def test_a_map_and_a_loop_say_what_they_repeat() -> None:
    facts = {"max_iterations": 5, "break_on": "done", "index_as": "i", "next": "success"}
    loop = {"type": "loop", "branches": {"*": chain(act=task())}} | facts

    assert lines_of(chain(pages=over("urls", chain(refine=loop))))[:6] == [
        'subgraph n0["pages · map: item in urls"]',
        'subgraph n1["refine · loop: until done, at most 5"]',
        'n2["act"]',
        "end",
        "end",
        'n3(["success"])',
    ]


def test_branches_of_a_parallel_have_a_frame_each_and_meet_again() -> None:
    branches = {"french": chain(call=task()), "german": chain(call=task(), check=task())}
    drawn = lines_of(chain(a=task(), both={"type": "parallel", "branches": branches} | task()))

    assert [line for line in drawn if line.startswith("subgraph")] == [
        'subgraph n1["both"]',
        'subgraph n2["french"]',
        'subgraph n4["german"]',
    ]
    assert {line for line in drawn if "-->" in line} == {
        *("n0 --> n1_in", "n1_in --> n3", "n1_in --> n5", "n5 --> n6"),
        *("n3 --> n1_out", "n6 --> n1_out", "n1_out --> n7"),
    }


def test_a_conditional_is_a_diamond_with_the_names_of_the_branches_on_its_arrows() -> None:
    branches = {
        "fr": chain(one=task()),
        "de": chain(two=task("fail")),
        "none": {"start_at": "fail"},
    }
    step = {"type": "conditional", "parameter": "language", "branches": branches, "next": "success"}
    drawn = lines_of(chain(route=step))

    assert drawn[:2] == ['subgraph n0["route"]', 'n1{"language"}']
    assert [line for line in drawn if "-->" in line] == [
        'n1 --> |"fr"| n2',
        "n3 --> n4",
        'n1 --> |"de"| n3',
        'n1 --> |"none"| n5',
        "n2 --> n6",
    ]


def test_steps_that_ran_often_are_counted_and_have_the_worst_status() -> None:
    pages = over("urls", chain(fetch=task(), store=task()))
    states = {f"pages.{n}.fetch": "fail" if n < 3 else "success" for n in range(1_000)}
    states |= {f"pages.{n}.store": "running" for n in range(3, 5)}
    drawn = lines_of(chain(load=task(), pages=pages, last=task()), {"load": "success"} | states)

    assert drawn[:5] == [
        'n0["load<br>success"]',
        'subgraph n1["pages · map: item in urls"]',
        'n2["fetch<br>3 fail, 997 success"]',
        'n3["store<br>2 running"]',
        "end",
    ]
    assert {line for line in drawn if line.startswith("class ")} == {
        *("class n0 success", "class n2 fail", "class n3 running", "class n4 waiting"),
        "class n1 waitingFrame",
    }


def test_a_composite_has_the_status_of_its_own() -> None:
    nested = over("xs", chain(inner=over("ys", chain(a=task()), on_failure=chain(mend=task()))))
    states = {"outer": "fail", "outer.0.inner": "success", "outer.1.inner": "fail"}
    states |= {"outer.1.inner.on_failure.mend": "cancelled", "outer.0.inner.7.a": "interrupted"}
    drawn = lines_of(chain(outer=nested), states)

    assert drawn[0] == 'subgraph n0["outer · map: item in xs · fail"]'
    assert drawn[1] == 'subgraph n1["inner · map: item in ys · 1 fail, 1 success"]'
    assert 'n2["a<br>1 interrupted"]' in drawn
    assert 'n4["mend<br>1 cancelled"]' in drawn
    assert "class n0,n1 failFrame" in drawn


@pytest.mark.parametrize("path", ["b", "a.x", "a.x.b", "a.on_failure.zz", "", "pages.7", "pages"])
def test_a_path_that_the_structure_does_not_have_is_left_out(path: str) -> None:
    graph = chain(a=task(on_failure=chain(m=task())))
    assert lines_of(graph, {path: "fail"}) == lines_of(graph, {})


def test_a_status_of_a_later_version_is_told() -> None:
    assert 'n0["a<br>on hold"]' in lines_of(chain(a=task()), {"a": "on hold"})


def boom() -> None:
    raise ValueError("no")


def test_the_picture_of_a_run_has_its_states() -> None:
    steps = [Stub(name="a"), PythonTask(function=boom, name="b"), Stub(name="c")]
    pipeline = Pipeline(steps=steps)
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(run_id="monday")
    store = load_services(interactive_default="local").run_log_store
    drawn = fold(store.read("monday")).to_mermaid().splitlines()

    assert [line.strip() for line in drawn[1:4]] == [
        *('n0("a<br>success")', 'n1["b<br>fail"]', 'n2("c")')
    ]
    assert pipeline.to_mermaid().splitlines()[2].strip() == 'n1["b"]'
    assert AsyncPipeline(steps=steps).to_mermaid() == pipeline.to_mermaid()


def test_a_run_of_which_nothing_is_known_is_an_empty_picture() -> None:
    assert RunLog().to_mermaid() == "flowchart TD"
    assert not Picture({}, {}).small
    assert Picture({}).svg() == ""


NAMES = st.sampled_from(NASTY) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="./%"), min_size=1, max_size=30
)


def graphs(inner: st.SearchStrategy[Graph] | None) -> st.SearchStrategy[Graph]:
    """Graphs whose composites and recovery branches are of that kind."""

    @st.composite
    def build(draw: st.DrawFn) -> Graph:
        names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        steps: dict[str, Graph] = {}
        for name, after in zip(names, [*names[1:], draw(ENDS)], strict=True):
            step: Graph = {"type": draw(PLAIN if inner is None else KINDS), "next": after}
            branches: dict[str, Graph] = {}
            if inner is not None and step["type"] in ("map", "loop"):
                branches["*"] = draw(inner)
                step |= {"iterate_on": draw(NAMES), "iterate_as": "x", "break_on": draw(NAMES)}
            elif inner is not None and step["type"] in ("parallel", "conditional"):
                branches = draw(st.dictionaries(NAMES, inner, min_size=1, max_size=3))
                step["parameter"] = draw(NAMES)
            if inner is not None and draw(st.booleans()):
                branches["on_failure"] = draw(inner)
            steps[name] = step | ({"branches": branches} if branches else {})
        return {"start_at": names[0], "steps": steps}

    return build()


ENDS = st.sampled_from(["success", "success", "fail"])
PLAIN = st.sampled_from(["task", "stub"])
KINDS = st.sampled_from(["task", "stub", "map", "loop", "parallel", "conditional"])
NESTED = graphs(graphs(graphs(None)))
STATES = st.sampled_from(["success", "fail", "running", "cancelled", "interrupted", "odd one"])


def paths(graph: Graph, around: str = "") -> list[str]:
    """A path in a run for each step."""
    found: list[str] = []
    for name, step in graph["steps"].items():
        found.append(around + name)
        for branch, inner in step.get("branches", {}).items():
            at = "3" if branch == "*" else branch
            found += paths(inner, f"{around}{name}.{at}.")
    return found


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Graph, dict[str, str] | None]:
    graph = draw(NESTED)
    if draw(st.booleans()):
        return graph, None
    return graph, {path: draw(STATES) for path in paths(graph) if draw(st.booleans())}


ID = r"n\d+(?:_in|_out)?"
LABEL = r'"((?:[^"`<>{}\[\]|\\%$@;#&]|<br>|#\d+;)*)"'
STATEMENTS = {
    "box": rf"({ID})(?:\[{LABEL}\]|\({LABEL}\)|\(\[{LABEL}\]\)|{{{LABEL}}}|\(\( \)\))",
    "frame": rf"subgraph ({ID})\[{LABEL}\]",
    "end": r"end()",
    "edge": rf"({ID} (?:-->|-\.->) (?:\|{LABEL}\| )?{ID})",
    "look": r"classDef (\w+) (?:[a-z-]+:[#\w ]+,?)+",
    "class": rf"class ({ID}(?:,{ID})* \w+)",
}


def parsed(text: str) -> list[tuple[str, str]]:
    """What is said in a flowchart: kind of statement, and what it is about. Strict."""
    first, *rest = text.splitlines()
    assert first == "flowchart TD"
    told: list[tuple[str, str]] = []
    for line in rest:
        for kind, pattern in STATEMENTS.items():
            if found := re.fullmatch(pattern, line.strip()):
                told.append((kind, found[1]))
                break
        else:
            raise AssertionError(f"what is this? {line!r}")
    return told


@settings(max_examples=200)
@given(pictures())
def test_whatever_the_names_are_a_flowchart_has_its_grammar(
    drawn: tuple[Graph, dict[str, str] | None],
) -> None:
    text = Picture(*drawn).mermaid()
    told = parsed(text)
    depth = 0
    for kind, _ in told:
        depth += (kind == "frame") - (kind == "end")
        assert depth >= 0
    assert depth == 0
    declared = Counter(about for kind, about in told if kind in ("box", "frame"))
    boxes = {about for kind, about in told if kind == "box"}
    assert {*declared.values()} == {1}
    for about in (about for kind, about in told if kind == "edge"):
        tail, *_, head = about.split(" ")
        assert {tail, head} <= boxes
    looks = {about for kind, about in told if kind == "look"}
    for about in (about for kind, about in told if kind == "class"):
        ids, look = about.split(" ")
        assert {*ids.split(",")} <= {*declared}
        assert look in looks
    # What Mermaid looks for wherever it stands.
    assert not re.search(r"style.*:\S*#.*;|direction\s+(TB|BT|RL|LR|TD)|ﬂ°|¶ß", text)


@given(NAMES)
def test_a_name_is_read_in_mermaid_as_it_is(name: str) -> None:
    [_, box, *_] = Picture(chain(**{name: task()})).mermaid().splitlines()
    label = re.fullmatch(rf"n0\[{LABEL}\]", box.strip())
    assert label is not None
    read = unescape(re.sub(r"#(\d+);", r"&#\1;", label[1])).replace("\u2060", "")
    assert read == printable(name).replace("\u2060", "")


@pytest.fixture(scope="module")
def dot() -> str:
    """Graphviz."""
    return need("dot", "graphviz")


def texts(svg: str) -> list[str]:
    """The texts of an SVG that holds shapes and texts, and nothing that acts."""
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    tags = {"svg", "g", "polygon", "path", "text", "ellipse", "polyline"}
    for one in root.iter():
        assert one.tag.removeprefix(space) in tags
        assert not [name for name in one.attrib if name.startswith("on") or "href" in name]
    return [one.text or "" for one in root.iter(f"{space}text")]


def test_graphviz_draws_all_names_as_they_are(dot: str) -> None:
    branches = {name: chain(**{name: task()}) for name in NASTY if name != "on_failure"}
    both = {"type": "parallel", "branches": branches, "next": "success"}
    choice = {"type": "conditional", "parameter": '"</text>', "branches": branches} | {"next": "x"}
    graph = chain(both=both, choice=choice, x=task(on_failure=chain(mend=task("fail"))))
    told = Counter(text.strip() for text in texts(Picture(graph, {"x": "fail"}).svg()))

    for name in branches:  # its frame and its step; then its arrow and its step
        assert told[printable(name)] >= 4, name
    assert {'"</text>', "if x fails", "mend", "success", "fail"} <= {*told}


@settings(max_examples=25)
@given(drawn=pictures())
def test_graphviz_takes_every_picture(dot: str, drawn: tuple[Graph, dict[str, str] | None]) -> None:
    picture = Picture(*drawn)
    assert texts(picture.svg()) if picture.small else picture.svg() == ""


def test_a_large_picture_is_left_out_and_its_text_is_not(dot: str) -> None:
    def of(count: int) -> Picture:
        return Picture(chain(**{f"s{n}": task() for n in range(count)}))

    assert texts(of(MAX_DRAWN - 1).svg())
    assert of(MAX_DRAWN).svg() == ""
    assert len(of(MAX_DRAWN).mermaid().splitlines()) == 2 * MAX_DRAWN + 2


NEVER = "mkfifo nobody; read line < nobody"


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo '<svg></svg>'; exit 3",
        "echo no picture",
        "kill -9 $$",
        "head -c 3000000 /dev/zero; echo '</svg>'",
        NEVER,
        None,
    ],
)
def test_a_dot_that_is_missing_or_fails_is_no_error(
    script: str | None, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        program = own_folder / "dot"
        program.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own_folder}{os.pathsep}{own_folder}/nowhere")
    monkeypatch.setattr(drawing, "DOT_SECONDS", 0.5 if script == NEVER else 60)

    assert Picture(chain(a=task())).svg() == ""
