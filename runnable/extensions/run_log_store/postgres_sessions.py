"""The sessions of this process with PostgreSQL servers: begun, shared, replaced, waited for."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary, finalize

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ConnectionTimeout
from psycopg.pq import TransactionStatus

from runnable.exceptions import StoreError
from runnable.extensions.run_log_store.postgres_description import describe
from runnable.extensions.run_log_store.postgres_errors import store_error
from runnable.extensions.run_log_store.postgres_hints import Listener, Teller
from runnable.extensions.run_log_store.postgres_schema import Session, prepare

T = TypeVar("T")

IDLE_SERVERS: Final = 8
"""With so many, sessions stay open when no store uses them any more."""
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.5
"""Seconds between two tries at a server that is away."""
GRACE_SECONDS: Final = 2.0
"""So much later than the server should have ended a statement, the session is given up."""
KEEP_ALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "fallback_application_name": "runnable",
}
"""A machine that vanished is noticed within half a minute; what the url says wins."""


class Settings(NamedTuple):
    """What tells the sessions of one store from those of another."""

    url: str
    where: str
    secret: str
    schema: str
    is_lasting: bool
    """Whether an append outlives a crash of the server."""
    pool_size: int
    connect_timeout: float
    timeout: float


class _Bounded(psycopg.Connection[tuple[Any, ...]]):
    """A session in which no answer is waited for without an end."""

    seconds: float | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for an answer, for so many seconds; see the base class."""
        try:
            return super().wait(gen, interval, timeout or self.seconds)
        except Exception as error:
            # What psycopg raises for a timeout has no public name, and is none of its errors.
            if type(error).__name__ != "_WaitTimeout" or timeout is not None:
                raise
            self.pgconn.finish()
            raise ConnectionTimeout("it has not answered in time") from None


class Server:
    """The sessions of this process with one server, for one schema.

    Args:
        settings: Which, and how.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._forget()

    def _forget(self) -> None:
        """Have no sessions, as a child has none after a fork: they are its parent's."""
        self._changed = threading.Condition(threading.Lock())
        self._idle: list[_Bounded] = []
        self._end = finalize(self, _close_all, self._idle)
        self._busy = 0
        self._was_reached = False
        self.teller = Teller(self.notify)
        self.listener = Listener(self.listen)

    @contextmanager
    def session(self) -> Generator[Session]:
        """A session that no other thread uses meanwhile; never held while a caller has the word.

        Raises:
            StoreError: If the server is away, or refuses.
        """
        session = self._take()
        try:
            yield session
        except psycopg.Error as error:
            if session.broken or session.closed:
                self.drop_idle()  # they are of the same server, and as dead
            raise self.error(error) from error
        finally:
            self._give_back(session)

    def patiently(self, work: Callable[[Session], T], seconds: float) -> T:
        """Call `work` with a session, and again if the server is away for a moment.

        It must come to the same if it is called again after it was done, but for its answer. A
        server that this process has never reached is not waited for.

        Args:
            work: What to do.
            seconds: How long to try; the second try, with a new session, is made in any case.

        Raises:
            StoreError: If the server stays away, or refuses.
        """
        began, pause = time.monotonic(), 0.0
        while True:
            try:
                with self.session() as session:
                    return work(session)
            except StoreError as error:
                late = time.monotonic() + pause - began > seconds
                if not (error.temporary and self._was_reached) or (late and pause):
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE) or FIRST_PAUSE

    def error(self, error: psycopg.Error, *, connected: bool = True) -> StoreError:
        """What the server refused, as a store says it."""
        return store_error(self.settings.where, error, self.settings.secret, connected=connected)

    def notify(self) -> None:
        """Tell those who listen that something was appended."""
        with self.session() as session:
            session.execute("SELECT pg_notify(%s, '')", (self._channel,))

    def listen(self) -> Session:
        """A session of its own in which is heard what `notify` tells; whoever asks closes it.

        Raises:
            StoreError: If the server is away, or refuses.
        """
        session = self._connect()
        try:
            session.execute(f'LISTEN "{self._channel}"'.encode())
        except psycopg.Error as error:
            session.close()
            raise self.error(error) from error
        session.seconds = None
        return session

    def describe(self) -> Mapping[str, str]:
        """What the server and the tables are, looked at in a session of its own; none is made.

        Raises:
            StoreError: If the server is away, refuses, or has tables of a newer version.
        """
        session = self._connect(makes_tables=False)
        try:
            return describe(session, self.settings.schema, self.settings.where)
        except psycopg.Error as error:
            raise self.error(error) from error
        finally:
            _close(session)

    @property
    def _channel(self) -> str:
        return f"runnable_{self.settings.schema}"

    def close(self) -> None:
        """End the sessions that no thread is using; new ones are begun when needed."""
        self.listener.close()
        self.drop_idle()

    def drop_idle(self) -> None:
        """End the sessions that wait to be used."""
        with self._changed:
            idle = self._idle.copy()
            self._idle.clear()
        _close_all(idle)

    def lose_in_fork(self) -> list[Any]:
        """In a child: what must be neither used nor closed here."""
        self._end.detach()
        lost: list[Any] = [self._idle, self.listener, self.teller]
        self._forget()
        return lost

    def _take(self) -> _Bounded:
        with self._changed:
            while self._busy >= self.settings.pool_size:
                self._changed.wait()
            self._busy += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except BaseException:
            self._leave(None)
            raise

    def _give_back(self, session: _Bounded) -> None:
        is_usable = not session.closed and session.info.transaction_status == TransactionStatus.IDLE
        if not is_usable:
            _close(session)
        self._leave(session if is_usable else None)

    def _leave(self, session: _Bounded | None) -> None:
        with self._changed:
            self._busy -= 1
            if session is not None:
                self._idle.append(session)
            self._changed.notify()

    def _connect(self, *, makes_tables: bool = True) -> _Bounded:
        """A new session, which finds the tables by their names; the first one makes them.

        Args:
            makes_tables: Whether it does.
        """
        settings = self.settings
        try:
            session = _Bounded.connect(
                settings.url,
                autocommit=True,
                **_parameters(settings),
            )
        except psycopg.Error as error:
            raise self.error(error, connected=False) from error
        try:
            session.seconds = settings.timeout + GRACE_SECONDS
            self._set_up(session)
            if makes_tables:
                prepare(session, settings.schema, settings.where)
        except psycopg.Error as error:
            _close(session)
            raise self.error(error) from error
        except BaseException:
            _close(session)
            raise
        self._was_reached = self._was_reached or makes_tables
        return session

    def _set_up(self, session: Session) -> None:
        settings = self.settings
        said = session.execute("SHOW synchronous_commit").fetchall()[0][0]
        # What was acknowledged must not be lost, also where the server is set to lose a little.
        commit = "off" if not settings.is_lasting else "on" if said == "off" else said
        milliseconds = str(max(1, int(settings.timeout * 1000)))
        session.execute(
            _SET,
            {"schema": f'"{settings.schema}"', "timeout": milliseconds, "commit": commit},
        )


_SET: Final = """
SELECT set_config('search_path', %(schema)s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('statement_timeout', %(timeout)s, false),
    set_config('idle_in_transaction_session_timeout', %(timeout)s, false),
    set_config('synchronous_commit', %(commit)s, false)
"""


def _parameters(settings: Settings) -> dict[str, Any]:
    """What is said to the server's library beside the url, which wins."""
    given = conninfo_to_dict(settings.url)
    kept: dict[str, Any] = {name: value for name, value in KEEP_ALIVE.items() if name not in given}
    # In another encoding than the database's not every text could be sent.
    forced = {"client_encoding": "UTF8"}
    return {**kept, **forced, "connect_timeout": max(1, round(settings.connect_timeout))}


def _close_all(sessions: Sequence[Session]) -> None:
    for session in sessions:
        _close(session)


def _close(session: Session) -> None:
    with suppress(psycopg.Error):
        session.close()


class Servers:
    """The servers that this process has sessions with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: WeakValueDictionary[Settings, Server] = WeakValueDictionary()
        self._recent: deque[Server] = deque()
        self._lost: list[Any] = []

    def open(self, settings: Settings) -> Server:
        """The one object of this process for these settings."""
        with self._lock:
            server = self._known.get(settings)
            if server is None:
                server = self._known[settings] = Server(settings)
            if server in self._recent:
                self._recent.remove(server)
            self._recent.append(server)
            left = self._recent.popleft() if len(self._recent) > IDLE_SERVERS else None
        if left is not None:
            left.close()
        return server

    def lose_in_fork(self) -> None:
        """In a child: end no session of the parent, whose sockets both hold."""
        self._lock = threading.Lock()
        for server in list(self._known.values()):
            self._lost += server.lose_in_fork()


SERVERS: Final = Servers()
"""The one of this process."""

os.register_at_fork(after_in_child=SERVERS.lose_in_fork)
