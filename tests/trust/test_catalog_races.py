"""The catalog under pressure: paths that change under its hands, a gigabyte, many processes.

A thread swaps files and folders for links, pipes and other files all the while; nothing outside of
the folder is read into the catalog, and nothing outside of it is written.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runnable import AsyncPipeline, Catalog, ExecutionFailedError, PythonTask
from runnable.defaults import MIB
from runnable.exceptions import CatalogError
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.files import Folder

PROJECT = Path(__file__).parents[2]
OUTSIDE = b"outside: nobody may read or write this\n"
INSIDE = b"inside\n"
PAUSE = 0.0005
"""Seconds for which a path stays as it is, so that some ways lead to their end."""


@pytest.fixture
def no_blocking_calls() -> None:
    """The proofs drive threads and processes and wait for them."""


def remove(path: Path) -> None:
    """Whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def swaps(inside: Path, outside: Path) -> list[Callable[[], object]]:
    """What may stand where the file `data/a` is looked for."""
    data, name = inside / "data", inside / "data" / "a"

    def plain() -> None:
        remove(data)
        data.mkdir()
        name.write_bytes(INSIDE)

    def then(make: Callable[[], object]) -> Callable[[], object]:
        def both() -> None:
            plain()
            remove(name)
            make()

        return both

    def folder_link() -> None:
        remove(data)
        data.symlink_to(outside)

    return [
        plain,
        then(lambda: name.symlink_to(outside / "a")),
        folder_link,
        then(lambda: os.link(outside / "a", name)),
        plain,
        plain,
        then(lambda: os.mkfifo(name)),
        then(name.mkdir),
    ]


@contextmanager
def swapping(inside: Path, outside: Path) -> Generator[list[int]]:
    """A thread that swaps, until the end of the block; how often it has."""
    over, count = threading.Event(), [0]

    def swap() -> None:
        while not over.is_set():
            for make in swaps(inside, outside):
                with suppress(OSError):  # the catalog writes there, too
                    make()
                count[0] += 1
                time.sleep(PAUSE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        over.set()
        thread.join(60)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """The folder that is swapped in, and one outside of it."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "a").write_bytes(OUTSIDE)
    return inside, outside


def untouched(outside: Path) -> bool:
    return (os.listdir(outside), (outside / "a").read_bytes()) == (["a"], OUTSIDE)


def test_nothing_outside_is_read_while_paths_are_swapped(places: tuple[Path, Path], full: bool):
    inside, outside = places
    wanted, read, refused = 1_000 if not full else 10_000, 0, 0
    before = os.listdir("/proc/self/fd")
    with swapping(inside, outside) as count, Folder.open(inside) as folder:
        began = time.monotonic()
        while count[0] < wanted or min(read, refused) < 10:
            assert time.monotonic() - began < 100
            for pattern in ("data/a", "**", "*/?"):
                with suppress(CatalogError, FileNotFoundError):
                    folder.find(pattern)
            try:
                with folder.file("data/a") as file:
                    content = b"".join(file.pieces())
                assert content in (INSIDE, b"")  # empty where it is just being written
                read += 1
            except (CatalogError, FileNotFoundError):
                refused += 1
    print(f"{count[0]:,} swaps, {read:,} times read, {refused:,} times refused")
    assert untouched(outside)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_nothing_outside_is_written_while_paths_are_swapped(places: tuple[Path, Path], full: bool):
    inside, outside = places
    wanted, written, refused = 1_000 if not full else 10_000, 0, 0
    with swapping(inside, outside) as count, Folder.open(inside) as folder:
        began = time.monotonic()
        while count[0] < wanted or min(written, refused) < 10:
            assert time.monotonic() - began < 100
            try:
                folder.replace("data/a", [b"new ", b"content"])
                written += 1
            except CatalogError:
                refused += 1
    print(f"{count[0]:,} swaps, {written:,} times written, {refused:,} times refused")
    assert untouched(outside)


async def test_runs_put_and_get_while_paths_are_swapped(
    places: tuple[Path, Path], own_folder: Path, full: bool
):
    inside, outside = places
    (own_folder / "runnable-config.yaml").write_text(
        "catalog: {type: file-system, compute_data_folder: inside, catalog_location: kept}\n"
        "run-log-store: {type: buffered}\n"
    )
    steps = [
        PythonTask(function=int, name="put", catalog=Catalog(put=["data/a"])),
        PythonTask(function=int, name="get", catalog=Catalog(get=["data/a"])),
    ]
    pipeline, wanted, ended = AsyncPipeline(steps=steps), 5_000 if full else 1_000, 0
    causes: list[BaseException | None] = []
    with swapping(inside, outside) as count:
        began = time.monotonic()
        while count[0] < wanted or ended < 10:
            assert time.monotonic() - began < 100
            try:
                await pipeline.execute()
                ended += 1
            except ExecutionFailedError as error:
                causes.append(error.__cause__)
    print(f"{count[0]:,} swaps, {ended:,} runs came to their end")
    assert all(isinstance(cause, CatalogError) for cause in causes), causes
    assert untouched(outside)
    kept = {path.read_bytes() for path in (own_folder / "kept").rglob("*") if path.is_file()}
    assert kept <= {INSIDE, b"", b"*\n"}


PROGRAM = """
import sys
from pathlib import Path
from runnable import Catalog, Pipeline, PythonTask
own = sys.argv[1]
def write():
    Path(f"{own}.txt").write_text("the same for all")
    Path(f"own-{own}.txt").write_text(own)
def read() -> str:
    return Path(f"own-{own}.txt").read_text()
both = [f"{own}.txt", f"own-{own}.txt"]
for turn in range(int(sys.argv[2])):
    run = Pipeline(steps=[
        PythonTask(function=write, name="write", catalog=Catalog(put=both)),
        PythonTask(function=read, name="read", returns=["text"], catalog=Catalog(get=both)),
    ]).execute(run_id=f"run-{own}-{turn}")
    assert run.parameters == {"text": own}
"""


def test_processes_share_a_catalog(own_folder: Path, full: bool):
    count, turns = (8, 40) if full else (3, 5)
    environ = {**os.environ, "PYTHONPATH": str(PROJECT), "RUNNABLE_PROGRESS": "0"}
    many = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(own), str(turns)], env=environ)
        for own in range(count)
    ]
    assert [one.wait(100) for one in many] == [0] * count
    contents = [path for path in Path(".catalog/.objects").rglob("*") if path.is_file()]
    assert len(contents) == count + 1
    assert len([*Path(".catalog").glob("run-*/write/own-*.txt")]) == count * turns


async def test_a_large_file_passes_in_constant_memory_and_holds_up_no_loop(
    own_folder: Path, full: bool
):
    size = 1024 * MIB if full else 192 * MIB

    def write() -> None:
        with Path("large.bin").open("wb") as file:
            for number in range(size // MIB):
                file.write(number.to_bytes(4, "little") * (MIB // 4))

    keeps = Catalog(put=["large.bin"])
    steps = [
        PythonTask(function=write, name="write", catalog=keeps),
        PythonTask(function=lambda: os.unlink("large.bin"), name="gone"),
        PythonTask(function=int, name="read", catalog=Catalog(get=["large.bin"])),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    late, over = [0.0], asyncio.Event()

    async def beat() -> None:
        while not over.is_set():
            expected = time.monotonic() + 0.01
            await asyncio.sleep(0.01)
            late.append(time.monotonic() - expected)

    beating = asyncio.ensure_future(beat())
    began = time.monotonic()
    run = await AsyncPipeline(steps=steps).execute()
    seconds = time.monotonic() - began
    over.set()
    await beating
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    worst = sorted(late)[-1 - len(late) // 100]
    print(
        f"{size // MIB:,} MiB: {seconds:.1f} s, {grown / MIB:.1f} MiB more memory, "
        f"the loop {worst * 1000:.1f} ms late (p99)"
    )
    assert grown < 32 * MIB
    assert (own_folder / "large.bin").stat().st_size == size
    [put], [got] = (run.steps[name].attempts[0].files for name in ("write", "read"))
    assert put.sha256 == got.sha256


def test_a_killed_put_leaves_no_content_that_is_taken_for_whole(tmp_path: Path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from runnable.extensions.catalog.file_system import FileSystemCatalog\n"
        "def pieces():\n    yield b'x' * 1000\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n    yield b''\n"
        "catalog = FileSystemCatalog(catalog_location=Path(sys.argv[1]))\n"
        "catalog.put_blob('a' * 64, 1000, pieces())\n"
    )
    place = tmp_path / "kept"
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", code, str(place)], env=environ, timeout=60)
    assert done.returncode == -9
    catalog = FileSystemCatalog(catalog_location=place)
    assert not catalog.has_blob("a" * 64, 1000)
    with pytest.raises(CatalogError, match="has no file"):
        list(catalog.get_blob("a" * 64))
