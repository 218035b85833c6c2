"""Where a pipeline comes from: what is kept of it, and how it is read again."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable import Pipeline, Stub
from runnable.origin import Origin
from runnable.records import Record
from runnable.runlog import fold

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("spec", "file", "argv", "origin"),
    [
        (None, "/srv/shop/run.py", ["run.py"], Origin("script", "run.py")),
        (None, "/srv/shop/bin/run.py", ["x", "1"], Origin("script", "bin/run.py", arguments=True)),
        (None, "/elsewhere/run.py", ["x"], Origin("script", "/elsewhere/run.py")),
        ("shop.run", "/srv/shop/run.py", ["x"], Origin("script", "-m shop.run")),
        ("shop.__main__", "/srv/shop/__main__.py", ["x"], Origin("script", "-m shop")),
        ("__main__", "/srv/shop/__main__.py", ["x"], Origin("script", "__main__.py")),
        (None, None, [""], Origin("session")),
    ],
)
def test_a_process_is_known_by_its_script(
    spec: str | None,
    file: str | None,
    argv: list[str],
    origin: Origin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = ModuleType("__main__")
    main.__spec__ = None if spec is None else SimpleNamespace(name=spec)  # pyright: ignore[reportAttributeAccessIssue]
    main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", argv)

    assert Origin.of_process(Path("/srv/shop")) == origin


@pytest.mark.parametrize(
    "origin",
    [
        Origin("module", "a:b", mac="00"),
        Origin("script", "x.py", arguments=True),
        Origin("session"),
    ],
)
def test_an_origin_is_read_as_it_was_written(origin: Origin) -> None:
    assert Origin.of(origin.fields()) == origin


@given(JSON | st.fixed_dictionaries({"kind": JSON | st.just("yaml"), "target": JSON, "mac": JSON}))
def test_whatever_a_record_holds_is_read_as_some_origin(stored: object) -> None:
    origin = Origin.of(stored)

    assert Origin.of(origin.fields()) == origin
    assert len(origin.vouched()) > 2


def test_a_path_that_is_no_text_can_be_kept() -> None:
    origin = Origin("yaml", "caf\udce9.yaml")

    assert origin.target == "caf\\udce9.yaml"
    assert origin.vouched() == b'["yaml","caf\\\\udce9.yaml"]'


def test_a_call_keeps_where_its_process_was_begun(own_folder: Path) -> None:
    run = Pipeline(steps=[Stub(name="a")]).execute()

    assert run.origin is not None
    assert run.origin.kind in ("script", "session")
    assert run.origin.mac == ""


def test_a_journal_of_an_earlier_version_tells_no_origin() -> None:
    event = (
        b'{"type":"pipeline_started","run_id":"r","timestamp":"2026-01-31T12:00:00Z","seq":1,'
        b'"tag":"","pipeline":"","total_tasks":1,"resumed":false,"epoch":1}'
    )

    assert fold([Record(1, "pipeline_started", event, b'{"parameters":{}}')]).origin is None
