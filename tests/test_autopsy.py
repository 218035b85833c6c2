"""What is found of a run whose journal, values or files are not what they were."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from runnable import Catalog, Pipeline, PythonTask, Stub, json, pickled
from runnable.autopsy import Autopsy, examine
from runnable.catalog import BaseCatalog, DoNothingCatalog
from runnable.config import load_services
from runnable.exceptions import JournalCorruptError, RunNotFoundError
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.extensions.run_log_store.sqlite_connection import connect
from runnable.records import Record
from runnable.store import BaseRunLogStore, Owner, RunRecord


class Thing:
    """What only a pickle holds."""


def make() -> tuple[str, Thing]:
    Path("out.txt").write_text("hello\n")
    print("made")
    return "x" * 300_000, Thing()


@pytest.fixture(autouse=True)
def run(own_folder: Path) -> str:
    """A run with two values beside its journal, and a file."""
    # On a thread of its own, where functions may wait for a disk.
    Path("runnable-config.yaml").write_text("pipeline-executor: {type: async-local}")
    step = PythonTask(
        function=make,
        name="make",
        returns=[json("text"), pickled("thing")],
        catalog=Catalog(put=["out.txt"]),
    )
    Pipeline(steps=[step, Stub(name="then")]).execute({"n": 1}, run_id="run")
    return "run"


def catalog() -> BaseCatalog:
    return load_services(interactive_default="local").catalog


def store() -> BaseRunLogStore:
    return load_services(interactive_default="local").run_log_store


def look(given: BaseRunLogStore | None = None) -> Autopsy:
    return examine(given or store(), "run", catalog)


def spoil(statement: str, *values: object) -> None:
    """Change the database by hand."""
    connection = connect(str(Path(".runnable", "runs.db")))
    connection.execute(statement, values)
    assert connection.changes() > 0
    connection.close()


def bodies() -> list[tuple[int, bytes]]:
    """The rows of the journal, as they are kept."""
    connection = connect(str(Path(".runnable", "runs.db")))
    rows = connection.execute("SELECT seq, body FROM journal ORDER BY seq").fetchall()
    connection.close()
    return [(seq, body) for seq, body in rows]


def test_a_whole_run_has_no_problem(run: str) -> None:
    records = list(store().read(run))

    found = look()

    assert found.problems == []
    assert (found.run_id, found.status) == (run, "success")
    assert found.records == len(records)
    assert found.events == records[-1].last
    assert found.kinds == {
        "pipeline_started": 1,
        "task_started": 2,
        "task_completed": 2,
        "chunks": 1,
        "pipeline_completed": 1,
    }
    assert (found.values, found.files) == (2, 1)


def test_a_run_that_is_not_there_is_an_error() -> None:
    with pytest.raises(RunNotFoundError):
        examine(store(), "no-run", catalog)


def test_a_flipped_byte_is_told_and_the_rest_is_read() -> None:
    seq, body = next(row for row in bodies() if b"task_completed" in row[1])
    at = body.index(b"task_completed")
    spoil("UPDATE journal SET body=? WHERE seq=?", body[:at] + b"T" + body[at + 1 :], seq)

    found = look()

    assert len(found.problems) == 1
    assert found.problems[0].endswith("is damaged (it cannot be read): restore it from a copy.")
    assert found.records == 3
    assert found.values == 0


def test_a_missing_record_is_told() -> None:
    seq = next(seq for seq, body in bodies() if b"task_completed" in body)
    spoil("DELETE FROM journal WHERE seq=?", seq)

    found = look()

    assert found.problems
    assert "(records are missing at the end): restore it from a copy." in found.problems[0]


def test_a_missing_and_a_changed_value_are_told_with_whose_they_are() -> None:
    spoil("DELETE FROM blobs WHERE length(body) < 100000")
    spoil("UPDATE blobs SET body=zeroblob(10) WHERE part=0")

    problems = look().problems

    assert len(problems) == 2
    assert problems[0].startswith("The value of 'text' of step 'make' cannot be read (the record")
    assert problems[1].startswith("The value of 'thing' of step 'make' cannot be read (run 'run' ")
    assert all("run the step that made it again, in a new run" in one for one in problems)


@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_file_that_is_not_whole_is_told_with_whose_it_is(how: str) -> None:
    [kept] = [path for path in Path(".catalog", ".objects").rglob("*") if path.is_file()]
    if how == "gone":
        kept.unlink()
    else:
        os.chmod(kept, 0o600)
        kept.write_text("HELLO\n")

    [problem] = look().problems

    assert problem.startswith("The file 'out.txt' of step 'make' is not whole: ")


def test_a_catalog_that_keeps_nothing_is_told() -> None:
    [problem] = examine(store(), "run", DoNothingCatalog).problems

    assert problem.startswith("It has put 1 files, and the catalog 'do-nothing' of the conf")


def test_without_files_no_catalog_is_looked_up(own_folder: Path) -> None:
    Pipeline(steps=[Stub(name="a")]).execute(run_id="no-files")

    def refuse() -> BaseCatalog:
        raise AssertionError

    assert examine(store(), "no-files", refuse).problems == []


def made_of(*records: Record) -> BufferedRunLogStore:
    """A store that keeps whatever it is given."""
    kept = BufferedRunLogStore()
    if any(one.run_id == "run" for one in kept.list_runs(limit=1_000)):
        kept.delete_run("run")
    lease = kept.create_run(RunRecord("run", "p", "", 0.0, Owner.current()), records[0])
    kept.memory.runs["run"].records.extend(records[1:])
    kept.memory.runs["run"].seq = records[-1].last
    kept.lease("run", Owner.current(), "release", epoch=lease.epoch)
    return kept


@pytest.mark.parametrize(
    ("kind", "event", "reason"),
    [
        ("task_started", b"{", "(task_started) is not of its form"),
        ("task_started", b'{"type":"task_started","seq":2}', "(task_started) is not of its form"),
        (
            "task_started",
            b'{"type":"task_started","seq":2,"run_id":"other"}',
            "it is 'task_started' with seq 2 of run 'other'",
        ),
        ("chunks", b"[]", "(chunks) is not of its form"),
        (
            "task_moved",
            b'{"type":"task_moved","seq":2,"run_id":"run"}',
            "It holds task_moved, which this version does not know",
        ),
    ],
)
def test_a_record_that_is_not_of_its_form_is_told(kind: str, event: bytes, reason: str) -> None:
    first = next(store().read("run"))

    problems = look(made_of(first, Record(2, kind, event))).problems

    assert any(reason in problem for problem in problems)


def test_records_that_a_store_leaves_out_are_told() -> None:
    first, *others = list(store().read("run"))

    problems = look(made_of(first, *others[1:])).problems

    assert problems[0] == (
        f"The records from seq 2 to {others[1].seq - 1} are missing: restore the journal from a "
        f"copy."
    )


def test_a_journal_that_begins_in_the_middle_is_told() -> None:
    _, second, *_ = list(store().read("run"))

    assert any("It begins with" in one for one in look(made_of(second)).problems)


class Damaged(BufferedRunLogStore):
    """A store that finds every record damaged, up to the 60th."""

    def read(
        self, run_id: str, *, after: int = 0, kinds: Container[str] | None = None
    ) -> Iterator[Record]:
        if after < 60:
            raise JournalCorruptError(run_id, after + 1, "it cannot be read")
        yield from super().read(run_id, after=after, kinds=kinds)


def test_of_very_many_damaged_places_not_all_are_looked_for() -> None:
    made_of(*store().read("run"))

    problems = look(Damaged()).problems

    assert len(problems) < 10
    assert problems[0] == (
        "The record at or after seq 1 is damaged (it cannot be read): restore it from a copy."
    )


def test_a_run_that_goes_on_meanwhile_has_no_problem(own_folder: Path) -> None:
    seen: list[Autopsy] = []
    pipeline = Pipeline(
        steps=[
            PythonTask(
                function=lambda: seen.append(examine(store(), "now", catalog)),
                name="look",
            )
        ]
    )

    pipeline.execute(run_id="now")

    assert [(one.status, one.problems) for one in seen] == [("running", [])]


def test_nothing_is_written(own_folder: Path) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in own_folder.rglob("*") if path.is_file()}

    before = files()
    look()
    assert {
        name: data for name, data in files().items() if not name.endswith(("-shm", "-wal"))
    } == {name: data for name, data in before.items() if not name.endswith(("-shm", "-wal"))}
    assert isinstance(store(), SQLiteRunLogStore)
    assert isinstance(catalog(), FileSystemCatalog)
