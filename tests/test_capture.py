"""What tasks print and log goes to their own scope, masked, and on to the terminal."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import redirect_stdout
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import TextIO, cast

import pytest

from runnable.capture import Router, Stream
from runnable.defaults import FLUSH_BYTES, MAX_OUTPUT_BYTES
from runnable.lines import CUT
from runnable.loggers import task_logger
from runnable.masking import MARK, Masker

SECRET = "hunter22-and-more"


@dataclass(eq=False)
class Recorder:
    """A sink that keeps what it gets."""

    echo: bool = True
    log_level: int = logging.WARNING
    masker: Masker | None = None
    entries: list[tuple[Stream, str]] = field(default_factory=list[tuple[Stream, str]])

    def log(self, stream: Stream, text: str) -> None:
        self.entries.append((stream, text))

    def texts(self, stream: Stream = "stdout") -> list[str]:
        return [text for name, text in self.entries if name == stream]


class Terminal(io.TextIOWrapper):
    """A stream over bytes, as the real ones are."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.octets = io.BytesIO()
        super().__init__(self.octets, encoding=encoding, write_through=True)

    @property
    def shown(self) -> bytes:
        self.flush()
        return self.octets.getvalue()


current: ContextVar[Recorder | None] = ContextVar("current", default=None)


@dataclass
class World:
    """A router, and the streams it stands in front of."""

    router: Router
    out: Terminal
    err: Terminal

    def run(self, sink: Recorder, body: Callable[[], object]) -> Recorder:
        """Do something inside a scope, to its end."""

        def inside() -> None:
            current.set(sink)
            body()

        copy_context().run(inside)
        self.router.finish(sink)
        return sink


class InTheCall:
    """Puts streams in after pytest has put in its own, which it does when a test is called."""

    def __init__(self) -> None:
        self.out, self.err = Terminal(), Terminal()
        self.router: Router | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self) -> Generator[None, object, object]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", self.out)
            patch.setattr(sys, "stderr", self.err)
            patch.setattr(logging.getLogger(), "handlers", [])
            if self.router is None:
                return (yield)
            self.router.enter(current.get)
            try:
                return (yield)
            finally:
                self.router.leave()


@pytest.fixture
def call(request: pytest.FixtureRequest) -> Iterator[InTheCall]:
    plugin = InTheCall()
    request.config.pluginmanager.register(plugin)
    yield plugin
    request.config.pluginmanager.unregister(plugin)


@pytest.fixture
def streams(call: InTheCall) -> tuple[Terminal, Terminal]:
    """What stands in `sys.stdout` and `sys.stderr` during the test."""
    return call.out, call.err


@pytest.fixture
def world(call: InTheCall) -> World:
    call.router = Router()
    return World(call.router, call.out, call.err)


@pytest.fixture
def root() -> logging.Logger:
    return logging.getLogger()


# Printing


def test_what_is_printed_outside_of_any_scope_goes_straight_on(world: World) -> None:
    print("part", end="")
    assert world.out.shown == b"part"


def test_a_line_goes_to_the_scope_it_is_printed_in_and_to_the_terminal(world: World) -> None:
    sink = world.run(Recorder(), lambda: print("hello", 5))
    assert sink.entries == [("stdout", "hello 5\n")]
    assert world.out.shown == b"hello 5\n"


def test_a_scope_may_keep_its_output_from_the_terminal(world: World) -> None:
    sink = world.run(Recorder(echo=False), lambda: print("hello", file=sys.stderr))
    assert sink.entries == [("stderr", "hello\n")]
    assert world.err.shown == b""


def test_the_log_gets_whole_lines_and_several_at_once_as_they_were_written(world: World) -> None:
    def body() -> None:
        print("a", end="")
        print("b")
        print("c\nd\ne", end="")
        sys.stdout.writelines(["f", "\n", "g"])

    assert world.run(Recorder(), body).texts() == ["ab\n", "c\nd\n", "ef\n", "g"]
    assert world.out.shown == b"ab\nc\nd\nef\ng"


def test_a_flushed_part_of_a_line_is_on_the_terminal_at_once_and_whole_in_the_log(
    world: World,
) -> None:
    shown: list[bytes] = []

    def body() -> None:
        print("loading", end="")
        shown.append(world.out.shown)
        print("...", end="", flush=True)
        shown.append(world.out.shown)
        print("done")

    assert world.run(Recorder(), body).texts() == ["loading...done\n"]
    assert shown == [b"", b"loading..."]
    assert world.out.shown == b"loading...done\n"


def test_a_line_that_is_painted_over_is_on_the_terminal_at_once(world: World) -> None:
    shown: list[bytes] = []

    def body() -> None:
        print("\r 50%", end="")
        shown.append(world.out.shown)

    world.run(Recorder(), body)
    assert shown == [b"\r 50%"]


def test_a_line_without_an_end_is_given_out_when_the_attempt_ends(world: World) -> None:
    assert world.run(Recorder(), lambda: print("rest", end="")).texts() == ["rest"]
    assert world.out.shown == b"rest"


def test_a_very_long_line_does_not_gather_in_memory(world: World) -> None:
    sink = Recorder()
    sizes: list[int] = []

    def body() -> None:
        for _ in range(30):
            print("x" * (FLUSH_BYTES // 10), end="")
            sizes.append(sum(map(len, sink.texts())))

    world.run(sink, body)
    assert sizes[-1] >= 2 * FLUSH_BYTES
    assert "".join(sink.texts()) == world.out.shown.decode()


def test_a_large_text_is_logged_in_portions_that_end_with_a_line(world: World) -> None:
    text = "".join(f"line {number}\n" for number in range(40_000))
    sink = world.run(Recorder(echo=False), lambda: print(text, end=""))
    assert "".join(sink.texts()) == text
    assert all(len(part) <= FLUSH_BYTES and part.endswith("\n") for part in sink.texts())


def test_output_past_the_limit_is_cut_with_one_mark_while_the_terminal_goes_on(
    world: World,
) -> None:
    def body() -> None:
        for _ in range(12):
            print("ä" * (512 * 1024 - 1))
        print("late", file=sys.stderr)

    sink = world.run(Recorder(), body)
    logged = "".join(text for _, text in sink.entries)
    assert len(logged.encode()) <= MAX_OUTPUT_BYTES + len(CUT.encode()) + 1
    assert logged.count(CUT) == 1
    assert logged.endswith("\n" + CUT)
    assert len(world.out.shown) > 12 * 1024 * 1023
    assert world.err.shown == b"late\n"


def test_the_limit_holds_over_all_attempts_of_one_sink(world: World) -> None:
    sink = Recorder(echo=False)
    for _ in range(3):
        world.run(sink, lambda: print("x" * (5 * 1024 * 1024)))
    assert len("".join(sink.texts())) <= MAX_OUTPUT_BYTES + len(CUT) + 1
    assert sink.texts()[-1].endswith(CUT)


def test_what_is_not_text_is_refused_as_the_real_stream_refuses_it(world: World) -> None:
    def body() -> None:
        with pytest.raises(TypeError, match="must be str, not int"):
            sys.stdout.write(cast("str", 5))

    assert world.run(Recorder(), body).entries == []


def test_lone_surrogates_are_logged_and_shown_as_escapes(world: World) -> None:
    assert world.run(Recorder(), lambda: print("a\ud812b")).texts() == ["a\\ud812b\n"]
    assert world.out.shown == b"a\\ud812b\n"


def test_characters_that_the_terminal_lacks_are_shown_as_escapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    router = Router()
    router.enter(current.get)
    sink = World(router, terminal, terminal).run(Recorder(), lambda: print("ä"))
    router.leave()
    assert sink.texts() == ["ä\n"]
    assert terminal.shown == b"\\xe4\n"


def test_a_terminal_that_is_gone_does_not_fail_the_task(world: World) -> None:
    world.out.close()
    sink = world.run(Recorder(), lambda: print("still here", flush=True))
    assert sink.texts() == ["still here\n"]


def test_a_sink_that_fails_does_not_fail_the_task(world: World) -> None:
    class Failing(Recorder):
        def log(self, stream: Stream, text: str) -> None:
            raise OSError("disk full")

    world.run(Failing(), lambda: print("hello"))
    assert world.out.shown == b"hello\n"


def test_a_sink_that_prints_and_logs_does_not_hear_itself(world: World) -> None:
    class Talking(Recorder):
        def log(self, stream: Stream, text: str) -> None:
            super().log(stream, text)
            print(f"logged {SECRET}")
            logging.getLogger("sink").warning("logged")

    sink = world.run(Talking(masker=Masker({"S": SECRET})), lambda: print("hello"))
    assert sink.texts() == ["hello\n"]
    assert world.out.shown == f"hello\nlogged {MARK}\n".encode()


def test_the_stand_in_is_like_the_stream_it_stands_for(world: World) -> None:
    assert sys.stdout.encoding == "utf-8"
    assert not sys.stdout.isatty()
    assert sys.stdout.errors == "strict"
    cast("io.TextIOWrapper", sys.stdout).reconfigure(line_buffering=True)
    assert world.out.line_buffering
    with pytest.raises(io.UnsupportedOperation):
        sys.stdout.fileno()
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sys.stdout.nonsense  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    with sys.stdout as stream:
        print("within", file=stream)
        assert world.out.shown == b"within\n"
    assert world.out.closed


def test_a_stream_without_bytes_below_it_has_none_here_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    router = Router()
    router.enter(current.get)
    assert not hasattr(sys.stdout, "buffer")
    router.leave()


def test_a_user_who_redirects_the_output_gets_it_and_the_log_does_not(world: World) -> None:
    own = io.StringIO()

    def body() -> None:
        with redirect_stdout(own):
            print("mine")
        print("ours")

    assert world.run(Recorder(), body).texts() == ["ours\n"]
    assert own.getvalue() == "mine\n"


# Bytes


def test_bytes_are_logged_as_text_and_reach_the_terminal_as_they_were(world: World) -> None:
    octets = b"\x89PNG\r\n\x1a\n\xff\xfe\xc3"

    def body() -> None:
        print("before ", end="")
        assert sys.stdout.buffer.write(octets) == len(octets)
        sys.stdout.buffer.writelines([b"\xa4", memoryview(b" after\n")])
        sys.stdout.buffer.flush()

    sink = world.run(Recorder(), body)
    assert world.out.shown == b"before " + octets + b"\xa4 after\n"
    assert "".join(sink.texts()) == "before \\udc89PNG\r\n\x1a\n\\udcff\\udcfeä after\n"


def test_bytes_of_a_character_that_is_never_finished_are_given_out_at_the_end(
    world: World,
) -> None:
    sink = world.run(Recorder(), lambda: sys.stdout.buffer.write(b"a\xe2\x82"))
    assert world.out.shown == b"a\xe2\x82"
    assert sink.texts() == ["a\\udce2\\udc82"]


def test_secrets_in_bytes_are_masked(world: World) -> None:
    def body() -> None:
        sys.stdout.buffer.write(SECRET[:5].encode())
        sys.stdout.buffer.write(SECRET[5:].encode() + b"\n")

    sink = world.run(Recorder(masker=Masker({"S": SECRET})), body)
    assert sink.texts() == [f"{MARK}\n"]
    assert world.out.shown == f"{MARK}\n".encode()


def test_bytes_outside_of_any_scope_go_straight_on(world: World) -> None:
    assert sys.stdout.buffer.write(b"\xff") == 1
    sys.stdout.buffer.flush()
    assert world.out.shown == b"\xff"


# Secrets


def test_secrets_are_masked_in_the_log_and_on_the_terminal(world: World) -> None:
    sink = world.run(Recorder(masker=Masker({"S": SECRET})), lambda: print("key:", SECRET))
    assert sink.texts() == [f"key: {MARK}\n"]
    assert world.out.shown == f"key: {MARK}\n".encode()


def test_a_flushed_beginning_of_a_secret_waits_and_what_is_before_it_in_other_writes_does_not(
    world: World,
) -> None:
    shown: list[bytes] = []

    def body() -> None:
        for part in ("key ", "is ", SECRET[:6], SECRET[6:], " ok"):
            print(part, end="", flush=True)
            shown.append(world.out.shown)
        print()

    sink = world.run(Recorder(masker=Masker({"S": SECRET})), body)
    masked = f"key is {MARK} ok".encode()
    assert shown == [b"key ", b"key is ", b"key is ", masked[:-3], masked]
    assert sink.texts() == [f"key is {MARK} ok\n"]


def test_a_secret_of_several_lines_is_masked_over_several_prints(world: World) -> None:
    secret = "first line of it\nab\nlast line of it"

    def body() -> None:
        for line in ("x", *secret.split("\n"), "y"):
            print(line)

    sink = world.run(Recorder(masker=Masker({"S": secret})), body)
    assert "".join(sink.texts()) == f"x\n{MARK}\ny\n"
    assert world.out.shown.decode() == f"x\n{MARK}\ny\n"


def test_the_beginning_of_a_secret_at_the_end_of_the_attempt_is_given_out(world: World) -> None:
    sink = world.run(
        Recorder(masker=Masker({"S": SECRET})), lambda: print("hunter", end="", flush=True)
    )
    assert sink.texts() == ["hunter"]
    assert world.out.shown == b"hunter"


def test_a_secret_that_two_threads_print_at_once_is_masked_in_both_lines(world: World) -> None:
    half = threading.Barrier(2)

    def body() -> None:
        def leak() -> None:
            print(SECRET[:9], end="", flush=True)
            half.wait()
            print(SECRET[9:])

        in_threads([leak, leak])

    sink = world.run(Recorder(masker=Masker({"S": SECRET})), body)
    assert sink.texts() == [f"{MARK}\n"] * 2
    assert world.out.shown.decode() == f"{MARK}\n" * 2


# Logging


def test_a_record_is_logged_by_its_scope(world: World) -> None:
    sink = world.run(Recorder(), lambda: logging.getLogger("mine").warning("at %d %%", 50))
    assert sink.entries == [("stderr", "WARNING mine: at 50 %\n")]


def test_a_record_has_its_traceback_below_it(world: World) -> None:
    def body() -> None:
        try:
            raise KeyError("gone")
        except KeyError:
            logging.getLogger("mine").exception("failed", stack_info=True)

    (text,) = world.run(Recorder(), body).texts("stderr")
    lines = text.split("\n")
    assert lines[:2] == ["ERROR mine: failed", "Traceback (most recent call last):"]
    assert "KeyError: 'gone'" in lines
    assert "Stack (most recent call last):" in lines
    assert text.endswith("\n")


def test_records_below_the_level_of_the_run_are_not_logged(world: World) -> None:
    logger = task_logger("mine", logging.INFO)
    sink = world.run(Recorder(log_level=logging.ERROR), lambda: logger.info("no"))
    assert sink.entries == []


def test_a_record_is_on_the_terminal_as_it_would_be_without_us(world: World) -> None:
    def body() -> None:
        logging.getLogger("mine").warning("shown by the last resort")
        task_logger("mine", logging.INFO).info("not shown by it")

    sink = world.run(Recorder(log_level=logging.INFO), body)
    assert world.err.shown == b"shown by the last resort\n"
    assert sink.texts("stderr") == [
        "WARNING mine: shown by the last resort\n",
        "INFO mine: not shown by it\n",
    ]


def test_a_task_may_configure_logging_and_its_handler_is_not_captured_again(
    world: World, root: logging.Logger
) -> None:
    def body() -> None:
        logging.basicConfig(format="own %(message)s")
        logging.getLogger("mine").warning("one")
        print("print", file=sys.stderr)

    sink = world.run(Recorder(), body)
    assert len(root.handlers) == 1
    assert sink.texts("stderr") == ["WARNING mine: one\n", "print\n"]
    assert world.err.shown == b"own one\nprint\n"


def test_loggers_that_do_not_propagate_are_heard_too(world: World) -> None:
    logger = logging.Logger("alone")
    logger.addHandler(logging.NullHandler())
    assert world.run(Recorder(), lambda: logger.error("x")).texts("stderr") == ["ERROR alone: x\n"]


def test_what_a_loggers_filter_refuses_is_not_logged(world: World) -> None:
    logger = logging.Logger("filtered")
    logger.addFilter(lambda record: False)
    assert world.run(Recorder(), lambda: logger.error("x")).entries == []


class Keeping(logging.Handler):
    """A handler that keeps what a structured one would send off."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.kept.append(f"{self.format(record)} {vars(record)}")


def test_no_handler_of_a_scope_with_secrets_sees_one(world: World, root: logging.Logger) -> None:
    handler = Keeping()
    root.addHandler(handler)

    def body() -> None:
        logger = logging.getLogger("mine")
        logger.warning("key %s", SECRET, extra={"token": SECRET, "more": [SECRET], "count": 3})
        try:
            raise ValueError(f"bad {SECRET}")
        except ValueError:
            logger.exception("failed")
        logger.warning(SECRET)

    sink = world.run(Recorder(masker=Masker({"S": SECRET})), body)
    assert len(handler.kept) == 3
    assert SECRET not in "".join(handler.kept)
    assert SECRET not in repr(sink.entries)
    assert f"'token': '{MARK}'" in handler.kept[0]
    assert "'count': 3" in handler.kept[0]
    assert f"ValueError: bad {MARK}" in handler.kept[1]


def test_a_record_without_secrets_reaches_the_handlers_as_it_was(
    world: World, root: logging.Logger
) -> None:
    handler = Keeping()
    root.addHandler(handler)

    def body() -> None:
        try:
            raise ValueError("plain")
        except ValueError:
            logging.getLogger("mine").exception("at %d", 5)

    world.run(Recorder(masker=Masker({"S": SECRET})), body)
    (record,) = handler.records
    assert (record.msg, record.args) == ("at %d", (5,))
    assert record.exc_info is not None


def test_a_record_whose_arguments_do_not_fit_is_logged_and_fails_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    masker = Masker({"S": SECRET})
    sink = world.run(
        Recorder(masker=masker), lambda: logging.getLogger("mine").warning("%d", SECRET)
    )
    assert sink.texts("stderr") == [f"WARNING mine: %d ('{MARK}',)\n"]
    assert "--- Logging error ---" in world.err.shown.decode()
    assert SECRET not in world.err.shown.decode()


def test_a_handler_that_raises_raises_as_it_would_without_us(
    world: World, root: logging.Logger
) -> None:
    handler = logging.Handler()

    def fail(record: logging.LogRecord) -> None:
        raise OSError("broken handler")

    handler.emit = fail
    root.addHandler(handler)

    def body() -> None:
        with pytest.raises(OSError, match="broken handler"):
            logging.getLogger("mine").warning("x")
        print("goes on")

    sink = world.run(Recorder(), body)
    assert sink.texts() == ["goes on\n"]


def test_a_handler_that_logs_itself_is_not_captured_again(
    world: World, root: logging.Logger
) -> None:
    class Chatty(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "mine":
                logging.getLogger("handler").error("on my way")
                print("delivered", file=sys.stderr)

    root.addHandler(Chatty())
    sink = world.run(Recorder(), lambda: logging.getLogger("mine").warning("x"))
    assert sink.entries == [("stderr", "WARNING mine: x\n")]
    assert world.err.shown == b"delivered\n"


def test_records_outside_of_any_scope_go_to_no_sink(world: World) -> None:
    logging.getLogger("mine").warning(SECRET)
    assert world.err.shown == f"{SECRET}\n".encode()


def test_a_task_logger_is_not_kept_by_logging() -> None:
    logger = task_logger("runnable.test.unkept", logging.DEBUG)
    assert "runnable.test.unkept" not in logging.Logger.manager.loggerDict
    assert logger.isEnabledFor(logging.DEBUG)
    assert logger.parent is logging.getLogger()


# Many at once


def in_threads(bodies: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=copy_context().run, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def test_nothing_crosses_between_two_hundred_scopes_at_once(world: World) -> None:
    sinks = [
        Recorder(masker=Masker({"S": f"secret-{n:03}"}) if n % 2 else None) for n in range(200)
    ]

    def thread_body(number: int) -> None:
        for turn in range(10):
            print(f"<{number}", "thread", turn, sep=":", end=":")
            print("secret-001", "end>")
            logging.getLogger("many").warning("<%d:log:%d end>", number, turn)

    async def attempt(number: int) -> None:
        current.set(sinks[number])
        worker = asyncio.create_task(asyncio.to_thread(thread_body, number))
        for turn in range(10):
            print(f"<{number}:task:{turn}:", end="")
            await asyncio.sleep(0)
            print(f"secret-{number:03}", "end>")
        await worker
        world.router.finish(sinks[number])

    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(attempt(number))

    for number, sink in enumerate(sinks):
        own = MARK if number % 2 else f"secret-{number:03}"
        first = MARK if number == 1 else "secret-001"
        assert sorted(sink.texts()) == sorted(
            [f"<{number}:task:{turn}:{own} end>\n" for turn in range(10)]
            + [f"<{number}:thread:{turn}:{first} end>\n" for turn in range(10)]
        )
        assert sink.texts("stderr") == [
            f"WARNING many: <{number}:log:{turn} end>\n" for turn in range(10)
        ]
    # Lines reach the terminal whole, in the order of each scope.
    assert sorted(world.out.shown.decode().splitlines(keepends=True)) == sorted(
        text for sink in sinks for text in sink.texts()
    )


def test_threads_of_one_scope_do_not_tear_lines_apart(world: World) -> None:
    def body() -> None:
        def speak() -> None:
            for _ in range(200):
                print("a", "b", "c", sep="-")

        in_threads([speak] * 8)

    sink = world.run(Recorder(), body)
    assert sink.texts() == ["a-b-c\n"] * 1600


def test_nothing_is_kept_for_a_sink_that_is_gone(world: World) -> None:
    world.run(Recorder(echo=False), lambda: print("x"))
    gc.collect()
    assert world.router.captures == {}
    assert world.router.busy == set()


def test_a_thread_that_prints_after_its_attempt_ended_goes_to_its_own_sink(world: World) -> None:
    sink, other = Recorder(), Recorder()
    ended = threading.Event()

    def late() -> None:
        current.set(sink)
        ended.wait()
        print("late")

    thread = threading.Thread(target=copy_context().run, args=(late,))
    thread.start()
    world.router.finish(sink)
    ended.set()
    world.run(other, lambda: print("other"))
    thread.join()
    assert (sink.texts(), other.texts()) == (["late\n"], ["other\n"])


# Standing in, and stepping aside


def test_what_was_replaced_is_put_back_after_the_last_run(
    streams: tuple[Terminal, Terminal],
) -> None:
    call_handlers = logging.Logger.callHandlers
    router = Router()
    router.enter(current.get)
    router.enter(current.get)
    router.leave()
    assert sys.stdout is not streams[0]
    router.leave()
    assert (sys.stdout, sys.stderr) == streams
    assert logging.Logger.callHandlers is call_handlers


def test_a_router_can_be_entered_again(world: World, streams: tuple[Terminal, Terminal]) -> None:
    world.router.leave()
    world.router.enter(current.get)
    assert world.run(Recorder(), lambda: print("again")).texts() == ["again\n"]
    assert streams[0].shown == b"again\n"


def test_a_stream_that_somebody_put_over_ours_stays(streams: tuple[Terminal, Terminal]) -> None:
    router = Router()
    router.enter(current.get)
    theirs = sys.stdout = io.StringIO()
    router.leave()
    assert sys.stdout is theirs
    assert sys.stderr is streams[1]


class Tee:
    """What users wrap around `sys.stdout`."""

    def __init__(self, below: TextIO) -> None:
        self.below = below
        self.seen: list[str] = []

    def write(self, text: str) -> int:
        self.seen.append(text)
        return self.below.write(text)

    def flush(self) -> None:
        self.below.flush()


def test_a_stream_wrapped_around_ours_goes_on_and_nothing_is_captured_twice(
    streams: tuple[Terminal, Terminal],
) -> None:
    router = Router()
    world = World(router, *streams)
    router.enter(current.get)
    tee = Tee(sys.stdout)
    sys.stdout = cast("TextIO", tee)
    first = world.run(Recorder(), lambda: print("first"))
    router.leave()
    print("between")
    router.enter(current.get)
    second = world.run(Recorder(), lambda: print("second"))
    router.leave()
    assert first.texts() == ["first\n"]
    assert second.texts() == ["second\n"]
    assert "".join(tee.seen) == "first\nbetween\nsecond\n"
    assert streams[0].shown == b"first\nbetween\nsecond\n"
    assert sys.stdout is tee


def test_a_patch_over_ours_of_what_calls_the_handlers_stays(
    streams: tuple[Terminal, Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Router()
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    router.enter(current.get)
    ours = logging.Logger.callHandlers

    def theirs(self: logging.Logger, record: logging.LogRecord) -> None:
        ours(self, record)

    monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
    router.leave()
    assert logging.Logger.callHandlers is theirs
    sink = World(router, *streams).run(Recorder(), lambda: logging.getLogger("x").error("quiet"))
    assert sink.entries == []


def test_a_handler_made_while_we_stood_in_works_after_we_left(
    streams: tuple[Terminal, Terminal],
) -> None:
    router = Router()
    router.enter(current.get)
    logger = logging.Logger("mine")
    logger.addHandler(logging.StreamHandler())
    router.leave()
    logger.warning("still there")
    assert streams[1].shown == b"still there\n"


def test_a_stand_in_that_somebody_kept_routes_nothing_after_the_last_run(
    streams: tuple[Terminal, Terminal],
) -> None:
    router = Router()
    router.enter(current.get)
    kept = sys.stdout
    router.leave()
    sink = World(router, *streams).run(Recorder(), lambda: print("x", file=kept, flush=True))
    assert sink.entries == []
    assert streams[0].shown == b"x\n"


def test_a_process_without_streams_is_left_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    router = Router()
    router.enter(current.get)
    assert sys.stdout is None
    print("nowhere")
    router.leave()
    assert sys.stdout is None


def test_leaving_more_often_than_entering_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="more often"):
        Router().leave()


def test_a_print_of_another_thread_outlives_the_stream_it_goes_to() -> None:
    """`print` does not hold on to `sys.stdout`, which comes and goes with the runs."""
    script = """
import sys, threading
from runnable.capture import ROUTER

over = threading.Event()

def come_and_go():
    for _ in range(20_000):
        ROUTER.enter(lambda: None)
        ROUTER.leave()
    over.set()

sys.setswitchinterval(1e-6)
threading.Thread(target=come_and_go).start()
while not over.is_set():
    print("a", "b", "c")
"""
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.DEVNULL, check=False)
    assert ended.returncode == 0
