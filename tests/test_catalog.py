"""The files of a run: what a step is given, what is kept of what it leaves, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import BlockBuster
from pydantic_core import from_json

from runnable import (
    AsyncPipeline,
    AsyncPythonTask,
    Catalog,
    ExecutionFailedError,
    Loop,
    Map,
    Parallel,
    PythonTask,
    RunCancelledError,
    RunLog,
    exchange,
)
from runnable.catalog import BaseCatalog, DoNothingCatalog
from runnable.datastore import DataCatalog
from runnable.exceptions import (
    CatalogError,
    DefinitionError,
    MissingFilesError,
    SecretLeakError,
)
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.records import Record
from runnable.tasks import PythonTaskType
from runnable.testing import simulate

IN_THE_FOLDER = "catalog: {type: do-nothing}\n"


def writes(name: str, text: str) -> Callable[[], None]:
    """A function that writes a file."""

    def write() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    return write


def reads(name: str) -> Callable[[], str]:
    """A function that gives back what a file holds."""
    return lambda: Path(name).read_text()


def fails() -> None:
    raise LookupError("as it must")


def put(name: str, step: str, text: str = "hello", **fields: Any) -> PythonTask:
    """A step that writes a file and puts it."""
    return PythonTask(function=writes(name, text), name=step, catalog=Catalog(put=[name]), **fields)


def get(name: str, step: str = "get", returns: str = "text", **fields: Any) -> PythonTask:
    """A step that gets a file and returns what it holds."""
    return PythonTask(
        function=reads(name), name=step, returns=[returns], catalog=Catalog(get=[name]), **fields
    )


def step(function: Callable[..., Any], name: str, **fields: Any) -> PythonTask:
    return PythonTask(function=function, name=name, **fields)


def execute(*steps: Any, **call: Any) -> RunLog:
    return asyncio.run(AsyncPipeline(steps=list(steps)).execute(**call))


def cause_of(*steps: Any, **call: Any) -> BaseException:
    """What a run failed of."""
    with pytest.raises(ExecutionFailedError) as caught:
        execute(*steps, **call)
    cause = caught.value.__cause__
    assert cause is not None
    return cause


def told(*steps: Any) -> tuple[str, list[Any]]:
    """What is said in the logs of a run's steps, and all its events."""

    async def listen() -> list[Any]:
        return [event async for event in AsyncPipeline(steps=list(steps)).execute_stream()]

    events = asyncio.run(listen())
    return "".join(event.text for event in events if event.type == "task_log"), events


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# What a step says


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("/etc/passwd", "is absolute"),
        ("../a.csv", "leads out of its folder"),
        ("a/../../b", "leads out of its folder"),
        ("data/..", "leads out of its folder"),
        ("data/", r"Write 'data/\*\*'"),
        ("", "names no file"),
        (".", "names no file"),
        ("a\0b", "a character that no name may have"),
        ("\ud800", "a character that no name may have"),
    ],
)
@pytest.mark.parametrize("stage", ["get", "put"])
def test_a_pattern_that_leads_elsewhere_is_refused_when_the_step_is_built(
    stage: str, pattern: str, reason: str
):
    get, put = ([pattern], []) if stage == "get" else ([], [pattern])
    with pytest.raises(DefinitionError, match=reason):
        PythonTask(function=fails, name="a", catalog=Catalog(get=get, put=put))


def test_a_catalog_takes_lists_and_its_own_fields_alone():
    with pytest.raises(DefinitionError, match="are lists of file names"):
        Catalog(put="a.csv")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DefinitionError, match="there is no such field"):
        Catalog(puts=["a.csv"])  # pyright: ignore[reportCallIssue]
    with pytest.raises(DefinitionError, match="hold names of files"):
        Catalog(get=[1])  # pyright: ignore[reportArgumentType]
    assert Catalog(get=["./a//b/**/**/*.csv"]).get == ["a/b/**/*.csv"]
    assert (Catalog().get, Catalog().put, Catalog().store_copy) == ([], [], True)


# What a run keeps and gives


def test_a_step_gets_a_file_as_an_earlier_step_put_it_and_is_told_if_it_was_changed():
    log, events = told(
        put("data/a.csv", "put"), step(writes("data/a.csv", "spoiled"), "spoil"), get("data/a.csv")
    )
    assert events[-1].outputs == {"text": "hello"}
    assert log == "catalog: data/a.csv was not what step 'put' put, and is again\n"


def test_a_file_that_is_gone_from_the_folder_is_given_back():
    run = execute(put("a.csv", "put"), step(lambda: os.unlink("a.csv"), "gone"), get("a.csv"))
    assert run.parameters["text"] == "hello"


def test_each_file_is_recorded_with_hash_size_and_stage(
    read_journal: Callable[[str], list[Record]],
):
    run = execute(put("a.csv", "put"), get("a.csv"))
    file = {"name": "a.csv", "sha256": sha256("hello"), "size": 5}
    records = read_journal(run.run_id)
    ended = [from_json(one.values) for one in records if one.kind == "task_completed"]
    assert [one["files"] for one in ended] == [[file | {"stage": "put"}], [file | {"stage": "get"}]]
    for stage in ("put", "get"):
        [attempt] = run.steps[stage].attempts
        assert attempt.files == (DataCatalog("a.csv", sha256("hello"), 5, stage),)
        assert run.steps[stage].file_count == 1


def test_what_lies_in_the_folder_is_given_and_recorded_if_no_step_has_put_it():
    Path("a.csv").write_text("mine")
    Path("data").mkdir()
    Path("data/b.csv").write_text("mine too")
    reader = step(reads("a.csv"), "get", returns=["text"], catalog=Catalog(get=["**/*.csv"]))
    run = execute(reader)
    assert run.parameters["text"] == "mine"
    assert [file.name for file in run.steps["get"].attempts[0].files] == ["a.csv", "data/b.csv"]
    assert not Path(".catalog").exists()


def test_a_run_without_files_makes_no_catalog():
    execute(step(writes("a.csv", "hello"), "write", catalog=Catalog()))
    assert sorted(os.listdir()) == [".runnable", "a.csv"]


def test_the_files_of_each_step_are_there_for_a_person_to_look_at():
    run = execute(put("data/a.csv", "first"), put("data/a.csv", "second", "other"))
    kept = Path(".catalog") / run.run_id
    assert (kept / "first/data/a.csv").read_text() == "hello"
    assert (kept / "second/data/a.csv").read_text() == "other"


def test_hidden_files_are_kept_only_if_they_are_named():
    Path(".hidden").write_text("x")
    Path(".env").mkdir()
    Path(".env/a").write_text("x")
    Path("seen").write_text("x")
    run = execute(step(int, "all", catalog=Catalog(put=["**", ".hid*"])))
    assert [file.name for file in run.steps["all"].attempts[0].files] == ["seen", ".hidden"]


def test_a_function_in_a_process_of_its_own_has_files_too():
    run = execute(put("a.csv", "put"), step(Path("a.csv").read_text, "x", isolation="process",
                        returns=["text"], catalog=Catalog(get=["a.csv"])))  # fmt: skip
    assert run.parameters["text"] == "hello"


def test_a_relative_folder_of_a_configuration_is_where_the_files_lie(
    configure: Callable[[str], Path],
):
    configure("catalog: {type: file-system, compute_data_folder: work, catalog_location: kept}\n")
    Path("work").mkdir()
    execute(step(writes("work/a.csv", "hello"), "put", catalog=Catalog(put=["*.csv"])))
    assert [*Path("kept").glob("*/put/a.csv")]
    assert not Path(".catalog").exists()


async def test_a_command_outside_of_a_run_records_its_files_and_keeps_none():
    task = PythonTaskType(function=writes("a.csv", "hello"), catalog=Catalog(put=["a.csv"]))
    attempt = await task.execute_command()
    assert attempt.files == (DataCatalog("a.csv", sha256("hello"), 5, "put", is_kept=False),)
    assert ".catalog" not in os.listdir()


def test_a_page_of_a_run_counts_files():
    run = execute(put("a.csv", "put"), step(int, "other"))
    assert ">files</th>" in run._repr_mimebundle_()["text/html"]
    without = execute(step(int, "other"))
    assert "files" not in without._repr_mimebundle_()["text/html"]


# What is missing


def test_what_is_looked_for_and_what_there_is_are_named():
    Path("data").mkdir()
    Path("data/there.csv").write_text("x")
    error = cause_of(put("kept.txt", "put"), get("data/a.csv"))
    assert isinstance(error, MissingFilesError)
    assert (error.stage, error.patterns) == ("get", ("data/a.csv",))
    assert error.there == ("data/there.csv", "kept.txt")
    assert str(error).startswith("The pattern 'data/a.csv' of Catalog(get=[…]) stands for no file")


def test_a_step_whose_files_are_missing_does_not_begin():
    _, events = told(get("a.csv"))
    kinds = [event.type for event in events]
    assert kinds == ["pipeline_started", "task_error", "pipeline_error"]


def test_a_step_that_leaves_no_file_to_put_fails():
    error = cause_of(step(int, "put", catalog=Catalog(put=["a.csv", "*.txt"])))
    assert isinstance(error, MissingFilesError)
    assert (error.stage, error.patterns) == ("put", ("a.csv", "*.txt"))


def test_a_failed_step_fails_of_its_own_error_whatever_is_wrong_with_its_files():
    Path("link").symlink_to("/etc/passwd")
    Path("good.txt").write_text("good")
    failing = step(fails, "work", catalog=Catalog(put=["missing.csv", "link", "good.txt"]))
    log, events = told(failing)
    assert (events[-1].error, events[-1].error_type) == ("as it must", "LookupError")
    assert "WARNING The pattern 'missing.csv' of Catalog(put=[…]) stands for no file" in log
    assert "WARNING The file 'link' is a symbolic link" in log
    assert [*Path(".catalog").glob("*/work/good.txt")]


# Failed attempts


def test_what_a_failed_step_has_written_is_kept_and_its_on_failure_branch_gets_it():
    def write_and_fail() -> None:
        Path("log.txt").write_text("half")
        raise LookupError

    run = execute(
        step(
            write_and_fail,
            "work",
            catalog=Catalog(put=["log.txt"]),
            on_failure=AsyncPipeline(
                steps=[step(lambda: os.unlink("log.txt"), "gone"), get("log.txt", "tell")]
            ),
        )
    )
    assert run.parameters["text"] == "half"
    assert [file.stage for file in run.steps["work"].attempts[0].files] == ["put"]


def test_another_attempt_begins_with_the_files_that_the_first_began_with():
    seen: list[str] = []

    def work() -> None:
        seen.append(Path("a.csv").read_text())
        Path("a.csv").write_text("half done")
        if len(seen) == 1:
            raise LookupError

    both = Catalog(get=["a.csv"], put=["a.csv"])
    run = execute(
        put("a.csv", "put"), step(work, "work", catalog=both, retries=1, backoff=0), get("a.csv")
    )
    assert seen == ["hello", "hello"]
    assert run.parameters["text"] == "half done"


def test_a_file_that_comes_late_is_got_by_another_attempt():
    comes = asyncio.Event()

    async def write() -> None:
        await comes.wait()
        await asyncio.to_thread(writes("a.csv", "late"))

    def tried_again(error: BaseException) -> bool:
        comes.set()
        return isinstance(error, CatalogError)

    late = get("a.csv", retries=1_000, backoff=0.01, retry_on=tried_again)
    writer = AsyncPythonTask(function=write, name="write")
    both = {"get": branch(late), "write": branch(writer)}
    run = execute(Parallel(name="both", branches=both))
    assert run.parameters["text"] == "late"
    first = run.steps["both.get.get"].attempts[0]
    assert (first.error_type, first.files) == ("MissingFilesError", ())


# Branches


def branch(*steps: Any) -> AsyncPipeline:
    return AsyncPipeline(steps=list(steps))


def test_a_branch_sees_what_was_put_before_it_and_what_it_has_put_itself():
    run = execute(
        put("a.csv", "put"),
        Parallel(
            name="both",
            branches={
                "one": branch(get("a.csv", returns="a"), put("1.csv", "own", "one"),
                              get("1.csv", "again", "one")),
                "two": branch(get("a.csv", returns="b")),
            },
        ),
        get("1.csv", "after", "after"),
    )  # fmt: skip
    assert run.parameters == {"a": "hello", "b": "hello", "one": "one", "after": "one"}


def test_two_branches_that_put_one_name_with_other_content_are_both_named():
    """Each waits for the other's put, so that each puts what it has written itself."""
    turn = threading.Event()

    def first() -> None:
        Path("a.csv").write_text("1")

    def second() -> None:
        assert turn.wait(20)
        Path("a.csv").write_text("2")

    keeps = Catalog(put=["a.csv"])
    both = Parallel(
        name="both",
        branches={
            "one": branch(step(first, "put", catalog=keeps), step(turn.set, "then")),
            "two": branch(step(second, "put", catalog=keeps)),
        },
    )
    assert execute(both).status == "success"
    turn.clear()
    error = cause_of(both, get("*.csv"))
    told = "was put by steps 'both.one.put' and 'both.two.put', which ran beside each other"
    assert told in str(error)


def test_the_items_of_a_map_that_put_the_same_bytes_have_put_one_file():
    each = Map(
        name="each",
        branch=branch(put("a.csv", "put")),
        iterate_on="items",
        iterate_as="item",
        max_concurrency=1,
    )
    run = execute(each, get("a.csv"), parameters={"items": [1, 2, 3]})
    assert run.parameters["text"] == "hello"


def write_item(item: int) -> None:
    Path(f"{item}.csv").write_text(str(item))


def read_all() -> str:
    return "".join(sorted(path.read_text() for path in Path().glob("*.csv")))


def test_what_all_items_of_a_map_have_put_is_seen_after_it():
    each = Map(
        name="each",
        branch=branch(step(write_item, "put", catalog=Catalog(put=["?.csv"]))),
        iterate_on="items",
        iterate_as="item",
        max_concurrency=1,
    )
    clear = step(lambda: [path.unlink() for path in Path().glob("*.csv")], "clear")
    after = step(read_all, "after", returns=["text"], catalog=Catalog(get=["*.csv"]))
    run = execute(each, clear, after, parameters={"items": [1, 2, 3]})
    assert run.parameters["text"] == "123"


def test_a_turn_of_a_loop_goes_on_from_the_files_of_the_last():
    def add() -> str:
        text = f"{Path('a.csv').read_text()}!"
        Path("a.csv").write_text(text)
        return text

    both = Catalog(get=["a.csv"], put=["a.csv"])
    run = execute(
        put("a.csv", "put"),
        Loop(
            name="again",
            branch=branch(
                step(add, "add", returns=["text"], catalog=both),
                step(writes("a.csv", "spoiled"), "spoil"),
                step(lambda: False, "done", returns=["done"]),
            ),
            max_iterations=3,
            break_on="done",
        ),
        get("a.csv"),
    )
    assert run.parameters["text"] == "hello!!!"


# Resuming


def test_a_resume_gets_what_the_first_life_has_put():
    broken = [True]

    def check() -> None:
        if broken:
            raise LookupError

    each = Map(
        name="each",
        branch=branch(
            step(write_item, "put", catalog=Catalog(put=["?.csv"])), step(check, "check")
        ),
        iterate_on="items",
        iterate_as="item",
        max_concurrency=1,
    )
    clear = step(lambda: [path.unlink() for path in Path().glob("*.csv")], "clear")
    after = step(read_all, "after", returns=["text"], catalog=Catalog(get=["*.csv"]))
    pipeline = AsyncPipeline(steps=[put("z.csv", "first", "z"), each, clear, after])
    with pytest.raises(ExecutionFailedError) as caught:
        asyncio.run(pipeline.execute(parameters={"items": [1, 2, 3]}))
    broken.clear()
    run = asyncio.run(pipeline.execute(resume=caught.value.run_id))
    assert run.parameters["text"] == "123z"
    assert run.steps["first"].skipped == run.steps["each.1.put"].skipped == "resumed"


def test_a_resume_after_a_loop_knows_which_turn_put_last():
    def count(index: int) -> bool:
        Path("a.csv").write_text(str(index))
        return index == 2

    broken = [True]

    def check() -> None:
        if broken:
            raise LookupError

    loop = Loop(
        name="again",
        branch=branch(step(count, "put", returns=["done"], catalog=Catalog(put=["a.csv"]))),
        max_iterations=5,
        break_on="done",
        index_as="index",
    )
    pipeline = AsyncPipeline(steps=[loop, step(check, "check"), get("a.csv")])
    with pytest.raises(ExecutionFailedError) as caught:
        asyncio.run(pipeline.execute())
    broken.clear()
    Path("a.csv").unlink()
    run = asyncio.run(pipeline.execute(resume=caught.value.run_id))
    assert run.parameters["text"] == "2"


def test_a_simulated_run_has_files_too(no_blocking_calls: BlockBuster):
    no_blocking_calls.deactivate()  # in a simulation the loop makes the calls of threads
    simulation = simulate(
        AsyncPipeline(steps=[put("a.csv", "put"), get("a.csv")]), seed=3, faults=2
    )
    assert simulation.run.parameters["text"] == "hello"


# Without copies


def test_without_a_copy_the_file_must_still_be_what_was_put():
    keeps_none = Catalog(put=["a.csv"], store_copy=False)
    write = step(writes("a.csv", "hello"), "put", catalog=keeps_none)
    run = execute(write, get("a.csv"))
    assert run.parameters["text"] == "hello"
    assert not Path(".catalog").exists()
    [file] = run.steps["put"].attempts[0].files
    assert (file.sha256, file.is_kept) == (sha256("hello"), False)
    error = cause_of(write, step(writes("a.csv", "jello"), "spoil"), get("a.csv"))
    assert "is not what step 'put' put, and no copy of that is kept" in str(error)


def test_do_nothing_gives_files_as_they_lie_there_and_records_them(
    configure: Callable[[str], Path],
):
    configure(IN_THE_FOLDER)
    run = execute(put("a.csv", "put"), step(writes("a.csv", "other"), "change"), get("a.csv"))
    assert run.parameters["text"] == "other"
    [file] = run.steps["get"].attempts[0].files
    assert (file.sha256, file.is_kept) == (sha256("other"), False)
    assert not Path(".catalog").exists()
    assert isinstance(cause_of(get("b.csv")), MissingFilesError)
    assert not DoNothingCatalog().keeps_files


# What is no file of the folder


def make_fifo() -> None:
    os.mkfifo("x")


def make_link() -> None:
    os.symlink("/etc/passwd", "x")


def make_hard_link() -> None:
    Path("outside").mkdir()
    Path("outside/y").write_text("another's")
    os.link("outside/y", "x")


def make_folder() -> None:
    os.mkdir("x")


def make_socket() -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind("x")


KINDS = [
    (make_fifo, r"is a pipe \(FIFO\)"),
    (make_link, "is a symbolic link"),
    (make_hard_link, r"has 2 names \(hard links\)"),
    (make_folder, r"is a folder. Write name/\*\*"),
    (make_socket, "is a socket"),
]


@pytest.mark.parametrize(("make", "reason"), KINDS)
def test_what_is_no_file_of_the_folder_alone_is_never_read(make: Callable[[], None], reason: str):
    error = cause_of(step(make, "put", catalog=Catalog(put=["x"])))
    assert isinstance(error, CatalogError)
    assert error.what == "The file 'x'"
    with pytest.raises(CatalogError, match=reason):
        raise error
    assert not Path(".catalog").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_device_is_never_opened():
    try:
        os.mknod("x", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("this system makes no devices")
    error = cause_of(step(int, "put", catalog=Catalog(put=["*"])))
    assert "is a device" in str(error)


def test_a_folder_that_is_a_link_is_not_entered():
    def link() -> None:
        os.symlink("/etc", "etc")

    linked = step(link, "put", catalog=Catalog(put=["etc/passwd"]))
    assert "is a symbolic link" in str(cause_of(linked))
    Path("etc").unlink()
    error = cause_of(step(link, "put", catalog=Catalog(put=["**/passwd"])))
    assert isinstance(error, MissingFilesError)


def test_what_stands_in_the_place_of_a_file_is_replaced_and_not_written_through():
    outside = Path("outside.txt")

    def link() -> None:
        outside.write_text("untouched")
        Path("a.csv").unlink()
        Path("a.csv").symlink_to(outside)

    def hard_link() -> None:
        Path("a.csv").unlink()
        os.link(outside, "a.csv")

    for instead in (link, hard_link):
        run = execute(put("a.csv", "put"), step(instead, "instead"), get("a.csv"))
        assert run.parameters["text"] == "hello"
        assert outside.read_text() == "untouched"
        assert not Path("a.csv").is_symlink()


def test_a_folder_on_the_way_that_became_a_link_is_not_written_through():
    def swap() -> None:
        Path("outside").mkdir()
        Path("data/a.csv").unlink()
        Path("data").rmdir()
        Path("data").symlink_to("outside")

    error = cause_of(put("data/a.csv", "put"), step(swap, "swap"), get("data/a.csv"))
    assert "symbolic link" in str(error)
    assert list(Path("outside").iterdir()) == []


def test_a_name_that_is_not_utf_8_is_one_sentence():
    def write() -> None:
        with open(b"\xff.csv", "w"):
            pass

    error = cause_of(step(write, "put", catalog=Catalog(put=["*.csv"])))
    assert str(error) == r"The file b'\xff.csv' has a name that is not UTF-8. Rename it."


def test_a_file_whose_name_holds_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKEN", "correct-horse")
    write = step(writes("a-correct-horse.csv", "x"), "put", secrets=["TOKEN"],
                 catalog=Catalog(put=["*.csv"]))  # fmt: skip
    assert isinstance(cause_of(write), SecretLeakError)
    assert not Path(".catalog").exists()
    stored = b"".join(path.read_bytes() for path in Path(".runnable").iterdir())
    assert b"correct-horse" not in stored


# While it is copied


def meddle(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Have something happen between the two readings of a file."""

    def has_blob(self: BaseCatalog, sha256: str, size: int) -> bool:
        change()
        return False

    monkeypatch.setattr(FileSystemCatalog, "has_blob", has_blob)


def rewrite() -> None:
    """The same size and the same times, and other bytes."""
    found = os.stat("a.csv")
    Path("a.csv").write_text("jello")
    os.utime("a.csv", ns=(found.st_atime_ns, found.st_mtime_ns))


def replace() -> None:
    Path("b.csv").write_text("hello")
    os.rename("b.csv", "a.csv")


@pytest.mark.parametrize(
    "change",
    [writes("a.csv", "jello"), writes("a.csv", "longer than before"), rewrite, replace,
     lambda: os.unlink("a.csv")],
    ids=["written", "grown", "same times", "replaced", "gone"],
)  # fmt: skip
def test_a_file_that_changes_while_it_is_copied_is_an_error_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]
):
    meddle(monkeypatch, change)
    error = cause_of(put("a.csv", "put"))
    assert str(error).startswith("The file 'a.csv' changed while it was read. See that")
    assert not [*Path(".catalog").glob("*/put")]


def test_a_file_that_vanishes_before_it_is_read_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
):
    from runnable.files import Folder

    find = Folder.find

    def find_and_remove(self: Folder, pattern: str) -> list[str]:
        found = find(self, pattern)
        os.unlink("a.csv")
        return found

    monkeypatch.setattr(Folder, "find", find_and_remove)
    assert "The file 'a.csv' was there and is gone" in str(cause_of(put("a.csv", "put")))


async def test_a_cancel_while_the_files_of_a_failed_step_are_kept_does_not_hide_its_error(
    monkeypatch: pytest.MonkeyPatch,
    read_journal: Callable[[str], list[Record]],
):
    began, go_on = threading.Event(), threading.Event()

    def put_blob(self: BaseCatalog, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        began.set()
        assert go_on.wait(20)

    def write_and_fail() -> None:
        Path("a.csv").write_text("half")
        raise LookupError("as it must")

    monkeypatch.setattr(FileSystemCatalog, "put_blob", put_blob)
    failing = step(write_and_fail, "work", catalog=Catalog(put=["a.csv"]))
    running = asyncio.ensure_future(AsyncPipeline(steps=[failing]).execute(run_id="monday"))
    assert await asyncio.to_thread(began.wait, 20)
    running.cancel()
    with pytest.raises((asyncio.CancelledError, RunCancelledError)):
        await running
    go_on.set()
    records = await asyncio.to_thread(read_journal, "monday")
    assert [one.kind for one in records[-2:]] == ["task_error", "pipeline_cancelled"]
    assert from_json(records[-2].event)["error"] == "as it must"


async def test_a_cancel_ends_a_copy_at_its_next_piece_and_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
):
    began, go_on = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def put_blob(self: BaseCatalog, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        next(pieces)
        began.set()
        assert go_on.wait(20)
        try:
            next(pieces)
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    ended = threading.Event()
    monkeypatch.setattr(FileSystemCatalog, "put_blob", put_blob)
    pipeline = AsyncPipeline(steps=[put("a.csv", "put", "x" * 3 * 2**20)])
    running = asyncio.ensure_future(pipeline.execute())
    assert await asyncio.to_thread(began.wait, 20)
    running.cancel()
    with pytest.raises((asyncio.CancelledError, RunCancelledError)):
        await running
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 20)
    assert "is copied no further" in str(raised[0])


def test_a_long_copy_is_told_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exchange, "LARGE", 1)
    monkeypatch.setattr(exchange, "TOLD_EVERY", -1.0)
    log, _ = told(put("a.bin", "put", "x" * 2 * 2**20))
    assert "catalog: put a.bin: 1 of 2 MiB\n" in log
    assert "catalog: put a.bin: 2 of 2 MiB\n" in log


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_one_sentence_and_nothing_half_made_stays(
    own_folder: Path, configure: Callable[[str], Path]
):
    disk = own_folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(disk)]
    if subprocess.call(mount):
        pytest.skip("this system mounts nothing")
    try:
        configure(f"catalog: {{type: file-system, catalog_location: {disk}/kept}}\n")
        error = cause_of(put("a.bin", "put", "x" * 3 * 2**20))
        assert "the disk is full" in str(error)
        assert "Make room, and resume the run." in str(error)
        assert not [path for path in (disk / "kept").rglob("*") if path.name.endswith(".part")]
    finally:
        subprocess.call(["umount", "-l", str(disk)])
