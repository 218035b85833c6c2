"""What all tests stand on: a folder of their own, no stray settings, no blocking call on a loop."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings
from pydantic import SecretStr

# Before the first model is made: logfire's plug-in of pydantic would load it into every test.
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

from runnable import opening
from runnable.config import load_services
from runnable.records import Record
from runnable.store import BaseRunLogStore
from tests.postgres_server import PostgresServer, temporary_folder

if TYPE_CHECKING:
    from runnable.extensions.run_log_store.postgres import PostgresRunLogStore

STORES = ("buffered", "sqlite")
MORE_STORES = ("file-system",)
HINTING_STORES = ("sqlite", "postgres", "file-system")
SHARED_STORES = HINTING_STORES
"""Those that several processes may use at once."""
LEAN_ON_STORES = frozenset(
    {"test_attaching.py", "test_caching.py", "test_concurrent_runs.py", "test_following.py"}
    | {"test_journal.py", "test_opening.py", "test_pickles.py", "test_runs.py", "test_threads.py"}
)
"""Tests that meet every store in `make test`; with `--full` all that run with each store do."""

# A machine that is busy is no reason for a law not to hold.
settings.register_profile("timeless", deadline=None)
settings.load_profile("timeless")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: the proofs of `tests/trust` in full."""
    parser.addoption("--full", action="store_true", help="the proofs of tests/trust in full")
    parser.addoption("--seeds", type=int, default=0, help="how many simulations")
    parser.addoption("--first-seed", type=int, default=0, help="the seed of the first one")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, and none of our variables set."""
    for name in list(os.environ):
        if name.startswith("RUNNABLE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """A blocking call on an event loop fails the test; what is meant to be inline is listed."""
    with blockbuster_ctx("runnable") as blockbuster:
        # A store that is `inline` commits on the loop, and looks whether its file is still there.
        database = "runnable/extensions/run_log_store/sqlite_database.py"
        blockbuster.functions["os.stat"].can_block_in(database, ("_in_place", "_log_size"))
        # So does the one in files, which opens a run's own when they are not open any more.
        journal = "runnable/extensions/run_log_store/file_system_journal.py"
        inline = {"acquire", "append", "_open", "_look", "_chunks_size", "_chunks_file", "_write"}
        for name in ("os.stat", "os.write", "os.read", "os.open", "io.open"):
            if name in blockbuster.functions:
                blockbuster.functions[name].can_block_in(journal, inline)
        # A large value is read where it is first looked at.
        values = "runnable/extensions/run_log_store/file_system_root.py"
        for name in ("os.stat", "os.read"):
            blockbuster.functions[name].can_block_in(values, {"read_file", "check"})
        # The folder current at the call is a fact of the call.
        blockbuster.functions["os.getcwd"].can_block_in("runnable/sdk/calls.py", "_context")
        # A sync call where a loop is running waits for the loop beside it, as it is meant to.
        acquire = blockbuster.functions["threading.Lock.acquire"]
        acquire.can_block_in("runnable/blocking.py", "_run_beside")
        # A sync function that runs inline may wait for threads of its own.
        acquire.can_block_in("runnable/tasks/python.py", ("call", "_drain"))
        # What a task prints reaches the terminal where the task prints it.
        for name in ("io.TextIOWrapper.write", "io.BufferedWriter.write", "os.write"):
            if name in blockbuster.functions:
                echoing = ("echo", "flush", "_echo_unencodable")
                blockbuster.functions[name].can_block_in("runnable/capture.py", echoing)
        # The value of a stream past 8 MiB is kept in a file without a name, a few KiB at a time.
        for name in ("io.BufferedRandom.read", "io.BufferedRandom.write", "os.unlink"):
            if name in blockbuster.functions:
                gathering = ("_write", "_quoted", "_chunks", "encoded", "value")
                blockbuster.functions[name].can_block_in("runnable/gathering.py", gathering)
        # dill looks up the file of a class that it is to pickle by value.
        for function in blockbuster.functions.values():
            function.can_block_in(
                "dill/_dill.py", {"save_type", "_locate_function", "_import_module"}
            )
        # The first model of a process looks for plug-ins of pydantic.
        for function in blockbuster.functions.values():
            function.can_block_in("pydantic/plugin/_loader.py", "get_plugins")
        yield blockbuster


@pytest.fixture
def configure(own_folder: Path) -> Callable[[str], Path]:
    """Write a configuration file that the calls of the test find."""

    def write(text: str) -> Path:
        path = own_folder / "runnable-config.yaml"
        path.write_text(text)
        return path

    return write


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Say with which stores a test runs."""
    if "each_store" in metafunc.fixturenames:
        is_lean = metafunc.definition.path.name in LEAN_ON_STORES
        more = MORE_STORES if is_lean or metafunc.config.getoption("--full") else ()
        metafunc.parametrize("each_store", [*STORES, *more], indirect=True)


@pytest.fixture
def each_store(request: pytest.FixtureRequest, configure: Callable[[str], Path]) -> str:
    """The test runs once with each store."""
    kind: str = request.param
    configure(f"run-log-store:\n  type: {kind}\n")
    return kind


def shared(request: pytest.FixtureRequest, configure: Callable[[str], Path]) -> str:
    """Configure the store that the fixture's parameter names; its section."""
    kind: str = request.param
    section = f"run-log-store:\n  type: {kind}\n"
    if kind == "postgres":
        store: PostgresRunLogStore = request.getfixturevalue("postgres_store")
        section += f"  url: {store.url.get_secret_value()}\n  schema: {store.schema_name}\n"
    configure(section)
    return section


@pytest.fixture(params=SHARED_STORES)
def shared_store(request: pytest.FixtureRequest, configure: Callable[[str], Path]) -> str:
    """The test runs once with each store that several processes may share; its section."""
    return shared(request, configure)


@pytest.fixture(params=HINTING_STORES)
def hinting_store(request: pytest.FixtureRequest, configure: Callable[[str], Path]) -> str:
    """The same with those of them that tell at once when something is appended."""
    return shared(request, configure)


@pytest.fixture
def open_store() -> Callable[[], BaseRunLogStore]:
    """Opens the store that the configuration of the test names."""

    def load() -> BaseRunLogStore:
        return load_services(interactive_default="local").run_log_store

    return load


@pytest.fixture
def read_journal(open_store: Callable[[], BaseRunLogStore]) -> Callable[[str], list[Record]]:
    """Reads all records of a run; off the event loop."""

    def read(run_id: str) -> list[Record]:
        return list(open_store().read(run_id))

    return read


@pytest.fixture
def first_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the next run the first one of the process, to which some variables apply."""

    def forget() -> None:
        monkeypatch.setattr(opening, "FIRST_RUN", opening.FirstRun())

    return forget


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this test process."""
    folder = temporary_folder()
    try:
        server = PostgresServer(folder)
        server.start()
        yield server
        server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def schemas() -> Iterator[int]:
    """Numbers for schemas that nobody has used."""
    return count()


@pytest.fixture
def postgres_store(
    postgres: PostgresServer, schemas: Iterator[int]
) -> Iterator[PostgresRunLogStore]:
    """A store in a schema of its own."""
    from runnable.extensions.run_log_store.postgres import PostgresRunLogStore

    schema = f"test_{next(schemas)}"
    store = PostgresRunLogStore(url=SecretStr(postgres.url()), schema=schema)
    yield store
    store.server.close()
