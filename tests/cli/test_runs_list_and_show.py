"""`runs list` and `runs show`, and what a mistyped run id is answered."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

import runnable
from runnable import (
    ExecutionFailedError,
    Map,
    Pipeline,
    PythonTask,
    RunNotFoundError,
    Stub,
    metric,
    pickled,
)
from runnable.cli.runs import finding
from runnable.run_json import run_json
from tests.cli.called import call


def make(n: int) -> tuple[int, set[int], list[int], float]:
    return n + 1, {n}, list(range(100_000)), 0.5


def fail() -> None:
    raise ValueError("no\x1b[31m luck\u202e [bold]x[/bold]")


def _make(run_id: str, tag: str = "") -> runnable.RunLog:
    returns = ["m", pickled("some"), "large", metric("loss")]
    step = PythonTask(function=make, name="make", returns=returns)
    return Pipeline(name="making", steps=[step]).execute({"n": 1}, run_id=run_id, tag=tag)


def _fail(run_id: str) -> None:
    pipeline = Pipeline(name="[red]failing", steps=[PythonTask(function=fail, name="broken")])
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(run_id=run_id)


def test_runs_are_listed_from_the_newest_on() -> None:
    _make("one", "t")
    _fail("two")

    listed = call("runs", "list", "--json").json

    assert [run["run_id"] for run in listed] == ["two", "one"]
    assert [run["status"] for run in listed] == ["fail", "success"]
    assert [run["tag"] for run in listed] == ["", "t"]
    created = datetime.fromisoformat(listed[1]["created"])
    assert created.tzinfo is UTC
    assert listed[1].keys() == {"run_id", "pipeline", "tag", "status", "created", "duration"}
    assert 0 < listed[1]["duration"] < 60


def test_a_list_can_be_narrowed_and_gone_through() -> None:
    for number in range(5):
        _make(f"run-{number}", "odd" if number % 2 else "even")
    _fail("bad")

    def listed(*options: str) -> list[str]:
        return [run["run_id"] for run in call("runs", "list", "--json", *options).json]

    assert listed("--limit", "2") == ["bad", "run-4"]
    assert listed("--before", "run-3", "--limit", "2") == ["run-2", "run-1"]
    assert listed("--tag", "odd") == ["run-3", "run-1"]
    assert listed("--status", "fail") == ["bad"]


def test_people_see_names_as_they_are_and_times_of_here(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail("two")
    monkeypatch.setenv("TZ", "UTC")

    said = call("runs", "list").out

    [run] = runnable.list_runs()
    here = datetime.fromtimestamp(run.created, UTC).astimezone()
    assert "[red]failing" in said
    assert f"{here:%Y-%m-%d %H:%M:%S}" in said


def test_an_empty_store_is_said_to_be_empty_and_is_not_made(own_folder: Path) -> None:
    assert call("runs", "list") == ("", "There are no runs.\n", 0)
    assert call("runs", "list", "--json").json == []
    assert call("runs", "list", "--limit", "0").status == 2


def test_a_run_is_shown_with_its_steps_and_values() -> None:
    _make("one", "t")

    said = call("runs", "show", "one").out

    assert said.startswith("Run one: success\n")
    for told in ("making", "m=2", "<builtins.set, pickled, ", "<JSON, 588,891 bytes>", "loss"):
        assert told in said


def test_a_failed_run_tells_of_what_without_obeying_it() -> None:
    _fail("two")

    said = call("runs", "show", "two")

    assert r"ValueError: no\x1b[31m luck\u202e [bold]x[/bold]" in said.out
    assert "\x1b" not in said.out
    assert said.status == 0


def test_the_json_of_a_run_has_its_values_and_names_what_is_in_blobs() -> None:
    log = _make("one", "t")

    told = call("runs", "show", "one", "--json").json

    assert told == run_json(log)
    assert told["parameters"] == {"n": 1, "m": 2, "some": None, "large": None, "loss": 0.5}
    assert told["blobs"]["some"]["type"] == "builtins.set"
    assert told["blobs"]["large"].keys() == {"kind", "size", "sha256"}
    [step] = told["steps"]
    assert (step["path"], step["metrics"], step["attempts"][0]["inputs"]) == (
        "make",
        {"loss": 0.5},
        {"n": 1},
    )


def test_steps_of_composites_stand_below_them() -> None:
    branch = Pipeline(steps=[Stub(name="a"), Stub(name="b")])
    step = Map(name="pages", branch=branch, iterate_on="urls", iterate_as="url")
    Pipeline(steps=[step]).execute({"urls": [1, 2]}, run_id="one")

    lines = call("runs", "show", "one").out.splitlines()
    labels = [line.split("  success")[0].rstrip() for line in lines if "  success" in line]

    assert labels == ["pages", "  0", "    a", "    b", "  1", "    a", "    b"]


def test_of_many_steps_the_bad_and_the_long_are_shown() -> None:
    def fetch(i: int) -> int:
        if i == 250:
            raise ValueError("gone")
        return i

    branch = Pipeline(steps=[PythonTask(function=fetch, name="fetch")])
    step = Map(name="pages", branch=branch, iterate_on="items", iterate_as="i")
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=[step]).execute({"items": list(range(300))}, run_id="one")

    said, everything = call("runs", "show", "one").out, call("runs", "show", "one", "--all").out

    assert "250.fetch" in said
    assert "… 101 more: 101 success" in said
    assert everything.count(".fetch") >= 300


def test_an_unknown_run_is_answered_with_ids_like_it() -> None:
    _make("nightly-1")
    for command in ("show", "events", "follow", "metrics", "cancel", "export"):
        said = call("runs", command, "nightly-2")
        assert (said.out, said.status) == ("", 1)
        assert "There is no run 'nightly-2'" in said.err
        assert said.err.endswith("Did you mean: nightly-1?\n")
    assert "The newest runs: nightly-1." in call("timeline", "zzz").err
    assert "nightly-1" in call("runs", "compare", "nightly-1", "nightly-3").err


def test_what_no_run_may_be_called_is_refused() -> None:
    said = call("runs", "show", "../../x")
    assert (said.out, said.status) == ("", 1)
    assert "run id" in said.err


def test_the_shell_is_offered_the_newest_runs(own_folder: Path) -> None:
    for number in range(25):
        _make(f"run-{number:02}")
    _make("other")
    context = _Context()

    assert finding.run_ids(context, "oth") == ["other"]
    assert len(finding.run_ids(context, "run-")) == 19
    (own_folder / "runnable-config.yaml").write_text("run-log-store: nonsense\n")
    assert finding.run_ids(context, "") == []


class _Context(typer.Context):
    def __init__(self) -> None:
        self.params = {}


async def test_python_lists_and_gets_runs() -> None:
    await asyncio.to_thread(_make, "one", "t")

    [run] = await asyncio.to_thread(runnable.list_runs, tag="t")
    log = await asyncio.to_thread(runnable.get_run, run.run_id)

    assert (run.pipeline, run.status) == ("making", "success")
    assert log.parameters["m"] == 2
    assert await asyncio.to_thread(log.load, "some") == {1}
    with pytest.raises(RunNotFoundError):
        await asyncio.to_thread(runnable.get_run, "other")
    with pytest.raises(ValueError, match="limit is 0"):
        runnable.list_runs(limit=0)
