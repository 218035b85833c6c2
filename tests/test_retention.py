"""Runs that are deleted: what goes with them, what stays, and what an interruption leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable import Catalog, Pipeline, PythonTask, ShellTask
from runnable.config import load_services
from runnable.defaults import Status
from runnable.exceptions import (
    CatalogError,
    InvalidNameError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.extensions.catalog import file_system
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.retention import delete_run, finish_deletions, select_runs
from runnable.store import BaseRunLogStore, RunSummary
from runnable.testing.store_samples import create


def long(text: str) -> str:
    return text * 100_000


def execute(run_id: str) -> None:
    """A run with a large value, a file of its own and one that all have."""
    steps = [
        ShellTask(
            name="write",
            command="printf %s $text > out.txt; printf same > shared.txt",
            catalog=Catalog(put=["*.txt"]),
        ),
        PythonTask(function=long, name="long", returns=["long"]),
    ]
    Pipeline(steps=steps).execute({"text": run_id}, run_id=run_id)


@pytest.fixture
def places(own_folder: Path) -> tuple[BaseRunLogStore, FileSystemCatalog]:
    """The default store and catalog, with the runs `one` and `two`."""
    execute("one")
    execute("two")
    services = load_services(interactive_default="local")
    assert isinstance(services.catalog, FileSystemCatalog)
    return services.run_log_store, services.catalog


def everything(catalog: FileSystemCatalog) -> set[str]:
    """All files in the catalog, by their names in it, and the folders of runs."""
    root = catalog.catalog_location
    found = [path for path in root.rglob("*") if path.is_file() or path.parent == root]
    return {str(path.relative_to(root)) for path in found} - {".trash", ".trash/.lock", ".deleted"}


def test_a_deleted_run_takes_its_files_and_leaves_those_of_others(
    places: tuple[BaseRunLogStore, FileSystemCatalog],
) -> None:
    store, catalog = places
    delete_run("one", store, catalog)
    assert [run.run_id for run in store.list_runs(limit=9)] == ["two"]
    left = everything(catalog)
    assert not any("one" in name for name in left)
    assert {name for name in left if name.startswith("two/write/")} == {
        "two/write/out.txt",
        "two/write/shared.txt",
    }
    delete_run("two", store, catalog)
    assert everything(catalog) == {".claimed", ".claims", ".gitignore", ".objects"}


def test_a_run_that_is_not_there_cannot_be_deleted(
    places: tuple[BaseRunLogStore, FileSystemCatalog],
) -> None:
    store, catalog = places
    with pytest.raises(RunNotFoundError, match="three"):
        delete_run("three", store, catalog)
    assert catalog.deletions() == {}


def test_a_run_that_somebody_holds_keeps_all_that_it_has(
    places: tuple[BaseRunLogStore, FileSystemCatalog],
) -> None:
    store, catalog = places
    create(store, "held")
    catalog.claim("held", "a" * 64)
    before = everything(catalog)
    with pytest.raises(RunHeldError, match=str(os.getpid())):
        delete_run("held", store, catalog)
    assert (everything(catalog), catalog.deletions()) == (before, {})
    assert store.list_runs(limit=1)[0].run_id == "held"


@pytest.mark.parametrize("run_id", ["../../mine.csv", "/etc/nothing", ".objects", ""])
def test_what_is_no_run_id_touches_no_file(
    places: tuple[BaseRunLogStore, FileSystemCatalog], run_id: str
) -> None:
    store, catalog = places
    Path("mine.csv").write_text("mine")
    before = everything(catalog)
    with pytest.raises(InvalidNameError, match="run id"):
        delete_run(run_id, store, catalog)
    assert Path("mine.csv").read_text() == "mine"
    assert everything(catalog) == before


class Died(BaseException):
    """The process ended here."""


STEPS = ("unlink", "rename", "remove_tree", "remove_empty")


def dying(after: int, store: BaseRunLogStore) -> Callable[[], None]:
    """Have the process die before the n-th change of catalog or store; gives what undoes it."""
    left = [after]
    patched = pytest.MonkeyPatch()

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            if not left[0]:
                raise Died
            left[0] -= 1
            real(*arguments)

        return step

    for name in STEPS:
        patched.setattr(file_system, name, counted(getattr(file_system, name)))
    patched.setattr(type(store), "delete_run", counted(type(store).delete_run))
    return patched.undo


def test_a_deletion_that_was_interrupted_anywhere_is_gone_on_with(
    places: tuple[BaseRunLogStore, FileSystemCatalog],
) -> None:
    store, catalog = places
    names = everything(catalog)
    for after in range(100):
        undo = dying(after, store)
        run_id = f"run-{after}"
        execute(run_id)
        try:
            delete_run(run_id, store, catalog)
            break
        except Died:
            undo()
        there = [run.run_id for run in store.list_runs(limit=9)]
        if run_id in there:  # all of it, or nothing of it
            assert finish_deletions(store, catalog) == []
            assert Path(catalog.catalog_location, run_id, "write", "out.txt").read_text() == run_id
            delete_run(run_id, store, catalog)
        else:
            assert finish_deletions(store, catalog) == [run_id]
        assert (everything(catalog), catalog.deletions()) == (names, {})
    else:
        pytest.fail("it takes more than a hundred changes")
    undo()
    assert after > 10
    for name in ("one", "two"):
        assert store.get_run_log_by_id(name).parameters["long"] == name * 100_000


def test_a_deletion_that_another_process_meets_under_way_is_still_gone_on_with(
    places: tuple[BaseRunLogStore, FileSystemCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalog = places
    real = SQLiteRunLogStore.delete_run

    def met(self: SQLiteRunLogStore, run_id: str) -> None:
        assert finish_deletions(store, catalog) == []
        real(self, run_id)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(SQLiteRunLogStore, "delete_run", met)
        with pytest.raises(Died):
            delete_run("one", store, catalog)
    assert finish_deletions(store, catalog) == ["one"]
    assert not any("one" in name for name in everything(catalog))


def test_two_that_delete_one_run_at_once_both_succeed(
    places: tuple[BaseRunLogStore, FileSystemCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalog = places
    real = SQLiteRunLogStore.delete_run

    def slower(self: SQLiteRunLogStore, run_id: str) -> None:
        monkeypatch.undo()
        delete_run(run_id, store, catalog)
        real(self, run_id)

    monkeypatch.setattr(SQLiteRunLogStore, "delete_run", slower)
    delete_run("one", store, catalog)
    assert not any("one" in name for name in everything(catalog))
    assert catalog.deletions() == {}


def test_files_that_another_removes_meanwhile_do_not_end_a_deletion_early(
    places: tuple[BaseRunLogStore, FileSystemCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalog = places
    real = os.unlink

    def slower(name: str, *, dir_fd: int | None = None) -> None:
        real(name, dir_fd=dir_fd)
        if name == "out.txt":
            monkeypatch.undo()
            real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", slower)
    delete_run("one", store, catalog)
    assert not Path(catalog.catalog_location, "one").exists()


def test_the_deletion_of_another_stores_run_is_left_to_that_one(
    places: tuple[BaseRunLogStore, FileSystemCatalog],
) -> None:
    store, catalog = places
    catalog.claim("gone", "a" * 64)
    catalog.begin_deletion("gone", "another/runs.db")
    assert finish_deletions(store, catalog) == []
    assert catalog.deletions() == {"gone": "another/runs.db"}


def test_what_a_store_that_fails_has_deleted_is_found_out_later(
    places: tuple[BaseRunLogStore, FileSystemCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalog = places
    real = SQLiteRunLogStore.delete_run

    def lost_answer(self: SQLiteRunLogStore, run_id: str) -> None:
        real(self, run_id)
        raise StoreError(self.where, "its answer was lost", "Try again.")

    monkeypatch.setattr(SQLiteRunLogStore, "delete_run", lost_answer)
    with pytest.raises(StoreError, match="lost"):
        delete_run("one", store, catalog)
    assert finish_deletions(store, catalog) == ["one"]
    assert not any("one" in name for name in everything(catalog))


def test_files_that_cannot_be_removed_are_one_error_and_go_with_the_next_try(
    places: tuple[BaseRunLogStore, FileSystemCatalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalog = places

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", refuse)
        with pytest.raises(CatalogError, match=r"'one' in .* cannot be removed"):
            delete_run("one", store, catalog)
    delete_run("one", store, catalog)
    assert not any("one" in name for name in everything(catalog))


statuses = st.sampled_from(["running", "success", "fail", "cancelled", "interrupted"])


class Listed(BufferedRunLogStore):
    """A store whose list of runs is given."""

    runs: Sequence[RunSummary] = ()

    def list_runs(
        self,
        *,
        limit: int,
        before: str | None = None,
        status: Status | None = None,
        tag: str | None = None,
    ) -> list[RunSummary]:
        """Those given, the newest first."""
        names = [run.run_id for run in self.runs]
        start = names.index(before) + 1 if before is not None else 0
        wanted = [run for run in self.runs[start:] if tag in (None, run.tag)]
        return [*wanted[:limit]]


@given(
    facts=st.lists(st.tuples(statuses, st.sampled_from(["", "nightly"]), st.integers(0, 9))),
    before=st.none() | st.integers(0, 10),
    keep_last=st.integers(0, 5),
    wanted=st.sets(statuses),
    tag=st.none() | st.just("nightly"),
)
def test_what_is_selected_is_old_enough_and_not_among_the_newest(
    facts: list[tuple[Status, str, int]],
    before: int | None,
    keep_last: int,
    wanted: set[Status],
    tag: str | None,
) -> None:
    ordered = sorted(facts, key=lambda one: -one[2])
    runs = [
        RunSummary(f"run-{number}", "demo", label, status, float(at))
        for number, (status, label, at) in enumerate(ordered)
    ]
    chosen = select_runs(
        Listed(runs=runs), before=before, keep_last=keep_last, statuses=wanted, tag=tag
    )
    fitting = [
        run
        for run in runs
        if run.status != "running"
        and (not wanted or run.status in wanted)
        and (tag is None or run.tag == tag)
    ]
    spared = fitting[:keep_last]
    assert chosen == [
        run
        for run in reversed(fitting)
        if run not in spared and (before is None or run.created < before)
    ]


def rows(store: SQLiteRunLogStore) -> dict[str, int]:
    with store.database.reading() as connection:
        return {
            table: int(connection.execute(f"SELECT count(*) FROM {table}").get)
            for table in ("runs", "journal", "chunks", "blobs", "notes")
        }


def stream(count: int) -> Iterable[str]:
    yield from ("x" * 5_000 for _ in range(count))


def test_of_a_run_whose_deletion_was_interrupted_no_chunks_stay(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = PythonTask(function=stream, name="stream")
    for run_id in ("one", "two"):
        Pipeline(steps=[step]).execute({"count": 100}, run_id=run_id)
    store = load_services(interactive_default="local").run_log_store
    assert isinstance(store, SQLiteRunLogStore)

    def die(self: SQLiteRunLogStore, key: int) -> None:
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(SQLiteRunLogStore, "_delete_rest", die)
        with pytest.raises(Died):
            store.delete_run("one")
    assert [run.run_id for run in store.list_runs(limit=9)] == ["two"]
    with pytest.raises(RunNotFoundError):
        list(store.read("one"))
    Pipeline(steps=[step]).execute({"count": 1}, run_id="one")
    store.delete_run("two")
    store.delete_run("one")
    assert set(rows(store).values()) == {0}
