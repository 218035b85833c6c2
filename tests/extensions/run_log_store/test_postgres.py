"""The store in PostgreSQL: the law of every store, and what is its own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from runnable.exceptions import (
    JournalCorruptError,
    RunExistsError,
    RunHeldError,
    RunNotFoundError,
    StoreError,
)
from runnable.extensions.run_log_store import (
    postgres_hints,
    postgres_removal,
    postgres_runs,
    postgres_schema,
)
from runnable.extensions.run_log_store.postgres import PostgresRunLogStore
from runnable.extensions.run_log_store.postgres_errors import store_error
from runnable.extensions.run_log_store.postgres_sessions import SERVERS
from runnable.kinds import CONTROL_KINDS
from runnable.store import Append
from runnable.testing import RunLogStoreSuite
from runnable.testing.store_samples import (
    chunks,
    create,
    dead_process,
    process_elsewhere,
    record,
    this_process,
    together,
)
from tests.cutting_proxy import CuttingProxy
from tests.postgres_server import PostgresServer

PROJECT = Path(__file__).parents[3]
NOBODY_LISTENS = "postgresql://me:very-secret@127.0.0.1:1/runs"


@pytest.fixture
def store(postgres_store: PostgresRunLogStore) -> PostgresRunLogStore:
    return postgres_store


Ask = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def ask(postgres: PostgresServer) -> Ask:
    """Runs a statement as the server's owner."""
    return postgres.execute


class TestPostgres(RunLogStoreSuite):
    @pytest.fixture
    def store(self, postgres_store: PostgresRunLogStore) -> PostgresRunLogStore:
        return postgres_store


class TestPostgresWithoutWaitingForTheDisk(RunLogStoreSuite):
    @pytest.fixture
    def store(self, postgres_store: PostgresRunLogStore) -> PostgresRunLogStore:
        return postgres_store.model_copy(update={"durability": "process"})


# What it is called, and what it keeps to itself


def made(url: str, **more: Any) -> PostgresRunLogStore:
    return PostgresRunLogStore(url=SecretStr(url), **more)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://me:pw@db:6432/runs", "postgresql://db:6432/runs (schema runnable)"),
        ("host=db port=7 dbname=runs", "postgresql://db:7/runs (schema runnable)"),
        ("postgresql://one,two/runs", "postgresql://one:5432,two:5432/runs (schema runnable)"),
        ("", "postgresql://localhost:5432/ (schema runnable)"),
    ],
)
def test_a_store_says_where_it_is(url: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    assert made(url).where == where


def test_a_server_that_was_never_there_is_one_sentence_at_once_and_without_a_password() -> None:
    store = made(NOBODY_LISTENS)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        create(store, "first")
    assert time.monotonic() - began < 10
    told = str(caught.value)
    assert told.startswith(
        "Store postgresql://127.0.0.1:1/runs (schema runnable): the server cannot be reached ("
    )
    assert "Connection refused" in told
    assert "\n" not in told
    assert caught.value.temporary
    assert "secret" not in told + repr(store) + str(store.model_dump())


@pytest.mark.parametrize(
    "url",
    [
        "postgres+psycopg://me:very-secret@h/d",
        "host=h password=very-secret what",
        "postgres://me:very/secret@h",
        "postgres://me:a@very-secret@h/d",
    ],
)
def test_a_url_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"neither postgresql://|%40") as caught:
        made(url)
    assert "secret" not in str(caught.value)


def test_a_wrong_password_is_refused_and_not_tried_again(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    rules = postgres.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + before)
    postgres.execute("SELECT pg_reload_conf()")
    try:
        store = made(f"postgresql://locked:very-wrong@127.0.0.1:{postgres.port}/postgres")
        deadline = time.monotonic() + 20
        while True:
            with pytest.raises(StoreError) as caught:
                create(store, "first")
            if "password" in str(caught.value) or time.monotonic() > deadline:
                break  # the server had not read its rules yet
        assert "the server refuses (" in str(caught.value)
        assert "See user, password and database" in str(caught.value)
        assert "very-wrong" not in str(caught.value)
        assert not caught.value.temporary
    finally:
        rules.write_text(before)
        postgres.execute("SELECT pg_reload_conf()")
        postgres.execute("DROP ROLE locked")


def test_a_database_that_is_not_there_is_named(postgres: PostgresServer) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist') as caught:
        create(made(postgres.url("nowhere")), "first")
    assert not caught.value.temporary


def test_a_database_of_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    store = made(postgres.url("latin"))
    with pytest.raises(StoreError, match="the encoding of the database is LATIN1"):
        create(store, "first")


def test_texts_that_the_server_cannot_hold_are_made_so(store: PostgresRunLogStore) -> None:
    create(store, "first", tag="a\0b\ud800c")
    [run] = store.list_runs(limit=5, tag="a\0b\ud800c")
    assert (run.run_id, run.tag) == ("first", "a�b?c")
    asked = store.lease("first", this_process(), "cancel", reason="enough\0")
    assert asked.cancel == "enough�"


# Its tables


def test_the_tables_of_a_newer_version_are_refused(store: PostgresRunLogStore, ask: Ask) -> None:
    create(store, "first")
    ask(f"UPDATE {store.schema_name}.version SET version = 7")
    store.server.close()
    with pytest.raises(StoreError, match="they are of version 7, this one knows 1") as caught:
        store.list_runs(limit=1)
    assert "Upgrade runnable" in str(caught.value)
    assert not caught.value.temporary


def test_older_tables_are_migrated_by_one_of_those_who_come(
    store: PostgresRunLogStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = create(store, "first")
    migrations = (*postgres_schema.MIGRATIONS, "ALTER TABLE runs ADD COLUMN more text")
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", migrations)
    store.server.close()
    stores = [store.model_copy(update={"connect_timeout": 5.0 + number}) for number in range(4)]
    answers = together([lambda one=one: len(one.list_runs(limit=5)) for one in stores])
    assert answers == [1] * 4
    assert ask(f"SELECT version FROM {store.schema_name}.version") == [(2,)]
    assert store.append([Append(lease, 1, [record(2)])]) == [None]
    for one in stores:
        one.server.close()


def test_a_migration_that_fails_changes_nothing(
    store: PostgresRunLogStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(store, "first")
    bad = "ALTER TABLE runs ADD COLUMN more text; SELECT 1 / 0"
    store.server.close()
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "MIGRATIONS", (*postgres_schema.MIGRATIONS, bad))
        with pytest.raises(StoreError, match="division by zero"):
            store.list_runs(limit=1)
    assert ask(f"SELECT version FROM {store.schema_name}.version") == [(1,)]
    assert [run.run_id for run in store.list_runs(limit=2)] == ["first"]


def test_many_processes_that_start_at_once_make_the_tables_once(
    store: PostgresRunLogStore,
) -> None:
    children = [child(store, f"create(store, 'run-{number}')") for number in range(4)]
    assert [(one.communicate(), one.returncode)[1] for one in children] == [0] * 4
    assert len(store.list_runs(limit=9)) == 4


def child(store: PostgresRunLogStore, code: str) -> subprocess.Popen[str]:
    """A process that finds the store as `store`."""
    prelude = (
        "import os, sys, time\nfrom runnable.extensions.run_log_store.postgres import *\n"
        "from runnable.testing.store_samples import *\n"
        "store = PostgresRunLogStore(url=sys.argv[1], schema=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", prelude + code, store.url.get_secret_value()]
    return subprocess.Popen(
        [*command, store.schema_name],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_user_with_few_rights_can_use_what_others_have_made(
    store: PostgresRunLogStore, ask: Ask, postgres: PostgresServer
) -> None:
    schema = store.schema_name
    ask("CREATE ROLE plain LOGIN")
    plain = made(f"postgresql://plain@127.0.0.1:{postgres.port}/postgres", schema=schema)
    try:
        with pytest.raises(StoreError, match="permission denied for database postgres") as caught:
            create(plain, "first")
        assert "which rights the user has" in str(caught.value)
        create(store, "theirs")
        ask(f"GRANT USAGE ON SCHEMA {schema} TO plain")
        ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO plain")
        lease = create(plain, "first", owner=dead_process())
        batch = [chunks(2, 2), record(4, "pipeline_completed")]
        assert plain.append([Append(lease, 1, batch, release=True)]) == [None]
        plain.put_blob("first", b"value")
        plain.put_notes("first", {"a": b"note"})
        plain.delete_run("first")
    finally:
        plain.server.close()
        ask("DROP OWNED BY plain")
        ask("DROP ROLE plain")


def test_tables_of_another_program_are_left_alone(store: PostgresRunLogStore, ask: Ask) -> None:
    ask(f"CREATE SCHEMA {store.schema_name}")
    ask(f"CREATE TABLE {store.schema_name}.runs (theirs text)")
    with pytest.raises(StoreError, match='relation "runs" already exists'):
        create(store, "first")
    assert ask(f"SELECT * FROM {store.schema_name}.runs") == []


@pytest.mark.parametrize(
    ("durability", "server", "wanted"),
    [("power", "off", "on"), ("power", "remote_write", "remote_write"), ("process", "on", "off")],
)
def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(
    postgres: PostgresServer, store: PostgresRunLogStore, durability: str, server: str, wanted: str
) -> None:
    url = postgres.url(options=f"-csynchronous_commit%3D{server}")
    copy = store.model_copy(update={"durability": durability, "url": SecretStr(url)})
    with copy.server.session() as session:
        assert session.execute("SHOW synchronous_commit").fetchone() == (wanted,)
    copy.server.close()


# Damage


def test_a_row_that_was_changed_or_is_gone_is_an_error_and_hides_no_other_run(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    for name in ("whole", "changed", "gone", "chunks"):
        lease = create(store, name)
        store.append([Append(lease, 1, [record(2)]), Append(lease, 2, [chunks(3, 4)])])
        store.append([Append(lease, 6, [record(7)])])
    keys = dict(ask(f"SELECT run_id, key FROM {store.schema_name}.runs"))
    journal = f"{store.schema_name}.journal"
    ask(f"UPDATE {journal} SET body = body || 'x' WHERE run = {keys['changed']} AND seq = 2")
    ask(f"DELETE FROM {journal} WHERE run = {keys['gone']} AND seq = 2")
    ask(f"DELETE FROM {store.schema_name}.chunks WHERE run = {keys['chunks']}")
    for name in ("changed", "gone", "chunks"):
        for kinds in (None, CONTROL_KINDS):
            with pytest.raises(JournalCorruptError) as caught:
                list(store.read(name, kinds=kinds))
            assert caught.value.run_id == name
    assert [one.seq for one in store.read("whole")] == [1, 2, 3, 7]
    assert [one.seq for one in store.read("whole", kinds=CONTROL_KINDS)] == [1, 2, 7]
    assert len(store.list_runs(limit=9)) == 4


def test_what_a_removal_that_died_has_left_goes_with_the_next(
    store: PostgresRunLogStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_removal, "ROWS", 3)
    for name in ("first", "second"):
        lease = create(store, name, owner=dead_process())
        for seq in range(2, 40, 2):
            store.append([Append(lease, seq - 1, [record(seq), chunks(seq + 1, 1)])])
        store.put_blob(name, b"x" * 3_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(store.server, "patiently", dying_after(store, 3))
        with pytest.raises(KeyboardInterrupt):
            store.delete_run("first")
    assert [run.run_id for run in store.list_runs(limit=5)] == ["second"]
    with pytest.raises(RunNotFoundError):
        store.read("first")
    create(store, "first")
    store.put_blob("first", b"new")
    store.delete_run("second")
    schema = store.schema_name
    left = "SELECT count(*) FROM {}.{}"
    counts = {table: ask(left.format(schema, table))[0][0] for table in ("runs", "journal")}
    counts |= {table: ask(left.format(schema, table))[0][0] for table in ("chunks", "blobs")}
    assert counts == {"runs": 1, "journal": 1, "chunks": 0, "blobs": 1}


def dying_after(store: PostgresRunLogStore, calls: int) -> Callable[..., Any]:
    """`patiently`, in a process that is ended at a later call."""
    patiently, left = store.server.patiently, [calls]

    def work(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return patiently(*arguments)

    return work


# Answers that are lost, and servers that are away


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture
def far(store: PostgresRunLogStore, proxy: CuttingProxy) -> Iterator[PostgresRunLogStore]:
    """The store at the other end of a way that loses answers."""
    url = f"postgresql://tester@127.0.0.1:{proxy.port}/postgres"
    copy = store.model_copy(update={"url": SecretStr(url)})
    yield copy
    copy.server.close()


def test_a_call_whose_answer_was_lost_comes_to_what_it_had_come_to(
    store: PostgresRunLogStore, far: PostgresRunLogStore, proxy: CuttingProxy
) -> None:
    far.list_runs(limit=1)
    proxy.lose = b"INSERT INTO runs"
    lease = create(far, "first")
    assert (lease.epoch, lease.live, proxy.lost) == (1, True, 1)
    with pytest.raises(RunExistsError):
        create(far, "first")

    for batch in (
        [Append(lease, 1, [record(2)])],
        [Append(lease, 2, [record(3), chunks(4, 2), record(6)])],
        [Append(lease, 6, [record(7, "pipeline_error")], release=True)],
    ):
        proxy.lose, before = b"moved", proxy.lost
        assert far.append(batch) == [None]
        assert proxy.lost == before + 1
    assert [one.seq for one in store.read("first")] == [1, 2, 3, 4, 6, 7]

    proxy.lose = b"lasting"
    taken = far.lease("first", this_process(), "take", epoch=2, first=record(8))
    assert (taken.epoch, taken.seq, proxy.lost) == (2, 8, 5)
    with pytest.raises(RunHeldError):
        far.lease("first", this_process(), "take", epoch=3, first=record(9))

    proxy.lose = b"SET held"
    assert not far.lease("first", this_process(), "release", epoch=2).live
    proxy.lose = b"UPDATE blobs"
    far.delete_run("first")
    assert proxy.lost == 7
    with pytest.raises(RunNotFoundError):
        far.delete_run("first")


def test_sessions_that_the_server_has_ended_are_replaced(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    lease = create(store, "first")
    together([lambda: store.list_runs(limit=1)] * 4)
    ended = ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='runnable'"
    )
    assert len(ended) >= 1
    assert store.append([Append(lease, 1, [record(2)])]) == [None]
    assert [one.seq for one in store.read("first")] == [1, 2]


def test_no_more_sessions_are_begun_than_a_store_may_have(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    few = store.model_copy(update={"pool_size": 2})
    lease = create(few, "first")
    answers = together([lambda: list(few.read("first"))] * 12)
    assert answers == [[record(1, "pipeline_started")]] * 12
    assert few.append([Append(lease, 1, [record(2)])]) == [None]
    own = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{}%'"
    assert ask(own.format("nobody has asked this"))[0][0] <= 1
    assert len(few.server._idle) <= 2
    few.server.close()


def test_a_server_that_stands_still_is_given_up_after_a_while(
    store: PostgresRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = create(store, "first")
    hasty = store.model_copy(update={"timeout": 0.2})
    with hasty.server.session() as session:
        backend = session.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        began = time.monotonic()
        # The second try has a session of its own, whose process does not stand still.
        assert hasty.append([Append(lease, 1, [record(2)])]) == [None]
        assert 0.2 < time.monotonic() - began < 20
    finally:
        os.kill(backend, signal.SIGCONT)
        hasty.server.close()
    assert [one.seq for one in store.read("first")] == [1, 2]


def test_a_statement_that_takes_too_long_is_ended_by_the_server(
    store: PostgresRunLogStore, ask: Ask, postgres: PostgresServer
) -> None:
    lease = create(store, "first")
    hasty = store.model_copy(update={"timeout": 0.3})
    with psycopg.connect(postgres.url()) as other:
        other.execute(f"SELECT FROM {store.schema_name}.runs FOR UPDATE".encode())
        with pytest.raises(StoreError, match="statement timeout") as caught:
            hasty.append([Append(lease, 1, [record(2)])])
        assert caught.value.temporary
    assert hasty.append([Append(lease, 1, [record(2)])]) == [None]
    hasty.server.close()


def test_who_is_paused_while_it_takes_a_run_holds_nobody_up_and_comes_too_late(
    store: PostgresRunLogStore,
) -> None:
    """Nothing is open at the server while a client judges what it has read."""
    create(store, "first", owner=dead_process())
    run = store._look("first")
    store.lease("first", process_elsewhere(), "take", epoch=2, first=record(2))
    assert take_late(store, run) is None
    assert store.lease("first", this_process(), "look").owner == process_elsewhere()


def test_a_lease_that_is_renewed_while_it_is_taken_is_kept(store: PostgresRunLogStore) -> None:
    short = store.model_copy(update={"lease_seconds": 0.01})
    create(short, "first", owner=process_elsewhere())
    while (run := store._look("first")).is_live():
        pass
    store.lease("first", process_elsewhere(), "renew", epoch=1)
    assert take_late(store, run) is None
    assert store.lease("first", this_process(), "look").owner == process_elsewhere()


def take_late(store: PostgresRunLogStore, run: postgres_runs.Run) -> postgres_runs.Run | None:
    """Take a run by what was read of it some time ago."""
    first = record(run.seq + 1)
    with store.server.session() as session:
        return postgres_runs.take(session, run, this_process(), first, "late", 30)


def test_a_password_is_not_told_whoever_says_it() -> None:
    said = psycopg.OperationalError("no, not\nwith very-secret")
    told = str(store_error("here", said, "very-secret"))
    assert "(no, not with …)" in told


# Forks


def test_a_child_that_was_forked_has_sessions_of_its_own(store: PostgresRunLogStore) -> None:
    lease = create(store, "first")
    with store.server.session() as session:
        before = session.info.backend_pid
    forked = os.fork()
    if not forked:
        status = 1
        with suppress(BaseException):
            with store.server.session() as session:
                assert session.info.backend_pid != before
            create(store, "childs")
            status = 0
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    with store.server.session() as session:
        assert session.info.backend_pid == before
    assert store.append([Append(lease, 1, [record(2)])]) == [None]
    assert len(store.list_runs(limit=5)) == 2


# Hints


def test_who_waits_hears_of_another_process_at_once(store: PostgresRunLogStore) -> None:
    create(store, "first")
    number = store.wait(0)
    late: list[float] = []
    with child(
        store,
        "for line in sys.stdin:\n"
        "    create(store, line.strip())\n"
        "    print(time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)\n",
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for turn in range(20):
            print(f"run-{turn}", file=other.stdin, flush=True)
            deadline = time.monotonic() + 20
            while len(store.list_runs(limit=50)) < turn + 2:
                assert time.monotonic() < deadline
                number = store.wait(10, number)
            seen = time.clock_gettime(time.CLOCK_MONOTONIC)
            late.append(seen - float(other.stdout.readline()))
        other.stdin.close()
    print(f"heard {sorted(late)[10] * 1000:.1f} ms after it was appended, the median of 20")
    assert sorted(late)[10] < 0.05


def test_what_was_appended_between_a_number_and_the_wait_ends_it(
    store: PostgresRunLogStore,
) -> None:
    create(store, "first")
    number = settled(store)
    store.append([Append(store.lease("first", this_process(), "look"), 1, [record(2)])])
    later = store.wait(20, number)
    assert later != number
    assert store.wait(0, settled(store)) == store.wait(0)


def settled(store: PostgresRunLogStore) -> int:
    """A number after which nothing more has come for a while."""
    number = store.wait(0)
    while (later := store.wait(0.3, number)) != number:
        number = later
    return number


def test_a_wait_in_which_nothing_happens_ends_when_it_should(store: PostgresRunLogStore) -> None:
    create(store, "first")
    number = settled(store)
    began = time.monotonic()
    assert store.wait(0.2, number) == number
    assert 0.19 < time.monotonic() - began < 20


def test_a_wait_without_a_server_ends_soon_so_that_its_error_is_met() -> None:
    store = made(NOBODY_LISTENS)
    began = time.monotonic()
    store.wait(0.2)
    store.wait(60)
    assert time.monotonic() - began < 30


def test_who_waits_is_woken_when_the_server_has_ended_its_session(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    create(store, "first")
    number = settled(store)
    heard: list[int] = []
    waiting = threading.Thread(target=lambda: heard.append(store.wait(30, number)))
    waiting.start()
    ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    waiting.join(20)
    assert heard
    assert heard[0] != number


def test_wishes_of_many_runs_are_asked_for_at_once(store: PostgresRunLogStore) -> None:
    names = [f"run-{number}" for number in range(5)]
    for name in names:
        create(store, name)
    store.lease("run-3", process_elsewhere(), "cancel", reason="enough")
    assert store.wishes([*names, "gone"]) == {"run-3": "enough"}
    assert store.wishes([]) == {}


def test_a_program_that_ends_leaves_no_session_and_no_warning(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    command = [sys.executable, "-W", "error", "-c", CREATE_AND_WAIT]
    told = subprocess.run(
        [*command, store.url.get_secret_value(), store.schema_name],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


CREATE_AND_WAIT = """
import sys
from runnable.extensions.run_log_store.postgres import *
from runnable.testing.store_samples import *
store = PostgresRunLogStore(url=sys.argv[1], schema=sys.argv[2])
create(store, "first")
store.wait(0.01)
"""


def test_the_sessions_of_a_store_that_is_gone_are_ended(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    copy = store.model_copy(update={"pool_size": 3})
    with copy.server.session() as session:
        backend = session.info.backend_pid
    SERVERS._recent.remove(copy.server)
    del copy, session
    gc.collect()
    deadline = time.monotonic() + 20
    while ask(f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend}"):
        assert time.monotonic() < deadline


# What a careless server, and its settings, may do


def test_texts_arrive_whatever_encoding_the_url_asks_for(
    postgres: PostgresServer, store: PostgresRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    url = postgres.url(client_encoding="LATIN1")
    other = made(url, schema=store.schema_name)
    create(other, "first", tag="日本")
    assert [one.tag for one in store.list_runs(limit=1)] == ["日本"]
    other.server.close()


@pytest.mark.parametrize("setting", ["idle_session_timeout", "idle_in_transaction_session_timeout"])
def test_a_session_that_stood_still_and_was_ended_is_replaced(
    store: PostgresRunLogStore, ask: Ask, setting: str
) -> None:
    lease = create(store, "first")
    ended: list[int] = []

    def stand_still(session: psycopg.Connection[Any]) -> int:
        pid = session.info.backend_pid
        if not ended:
            ended.append(pid)
            session.execute(f"SET {setting} = '50ms'".encode())
            if "transaction" in setting:
                session.execute("BEGIN")
            give_up = time.monotonic() + 30
            while ask(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}"):
                assert time.monotonic() < give_up
                time.sleep(0.01)
            session.execute("SELECT 1")
        return pid

    assert store.server.patiently(stand_still, 0) != ended[0]
    assert store.append([Append(lease, 1, [record(2)])]) == [None]


@pytest.mark.parametrize("code", ["57P05", "25P03", "25P04"])
def test_that_a_session_was_ended_for_standing_still_passes(code: str) -> None:
    assert store_error("here", psycopg.errors.lookup(code)("ended")).temporary


def test_appends_are_made_whatever_isolation_the_database_is_set_to(
    postgres: PostgresServer, store: PostgresRunLogStore, ask: Ask
) -> None:
    url = postgres.url(options="-c%20default_transaction_isolation%3Dserializable")
    other = made(url, schema=store.schema_name)
    level = other.server.patiently(
        lambda session: session.execute("SHOW transaction_isolation").fetchall(), 0
    )
    assert level == [("read committed",)]
    other.server.close()


def test_stores_of_different_services_are_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGSERVICE", raising=False)
    assert made("service=one").where == "postgresql (service=one, schema runnable)"
    told = made("postgresql://me:pw@/runs?service=two").where
    assert told == "postgresql (service=two dbname=runs, schema runnable)"
    monkeypatch.setenv("PGSERVICE", "three")
    assert made("").where == "postgresql (service=three, schema runnable)"


# What `runnable doctor` shows


def test_a_server_is_described_without_making_anything(
    store: PostgresRunLogStore, ask: Ask
) -> None:
    found = store.describe()
    assert found["server"].startswith("PostgreSQL 1")
    assert found["tables"] == "none yet: the first run makes them"
    assert ask(f"SELECT count(*) FROM pg_namespace WHERE nspname='{store.schema_name}'") == [(0,)]
    create(store, "first")
    found = store.describe()
    assert (found["tables"], found["runs"]) == ("version 1", "1")
    assert "missing rights" not in found
    assert int(found["size"].partition(" ")[0].replace(",", "")) > 8_192


def test_the_rights_that_a_user_lacks_are_told(
    postgres: PostgresServer, store: PostgresRunLogStore, ask: Ask
) -> None:
    create(store, "first")
    schema, user = store.schema_name, f"reader_of_{store.schema_name}"
    ask(f"CREATE ROLE {user} LOGIN")
    ask(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
    ask(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user}")
    other = made(postgres.url(user=user), schema=schema)
    assert other.describe()["missing rights"] == "insert, update, delete"
    assert other.describe()["user"] == user


def test_a_server_that_cannot_be_described_is_one_sentence() -> None:
    with pytest.raises(StoreError, match="the server cannot be reached") as caught:
        made(NOBODY_LISTENS).describe()
    assert "very-secret" not in str(caught.value)


def test_the_thread_that_tells_of_appends_ends_when_nothing_is_appended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_hints, "QUIET_SECONDS", 0.01)
    told = threading.Semaphore(0)
    teller = postgres_hints.Teller(told.release)
    for _ in range(2):
        teller.tell()
        assert told.acquire(timeout=20)
        thread = teller._thread
        if thread is not None:
            thread.join(20)
        assert teller._thread is None
