"""Every limit has its error or its cut, and the run can be read, followed and resumed after it."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    ExecutionFailedError,
    Pipeline,
    PythonTask,
    RunLog,
    RunnableError,
    Stub,
    current,
    follow,
)
from runnable.attaching import Place, frames
from runnable.defaults import (
    KIB,
    MAX_CHUNK_BYTES,
    MAX_ERROR_BYTES,
    MAX_NAME,
    MAX_OUTPUT_BYTES,
    MAX_PARAMETERS,
    MAX_PATH_DEPTH,
    MAX_PREVIEW_BYTES,
    MAX_RUN_ID,
    MAX_VALUE_BYTES,
    MAX_YAML_BYTES,
    MIB,
)
from runnable.events import BaseEvent, TaskChunkEvent, TaskLogEvent
from runnable.exceptions import (
    GraphError,
    InvalidNameError,
    LimitError,
    ParametersFileError,
    StoreError,
    UnencodableError,
    nearest,
)
from runnable.extensions.run_log_store.buffered import BufferedRunLogStore, Memory
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.lines import CUT
from runnable.records import Record
from runnable.store import BaseRunLogStore

Function = Callable[..., Any]
Open = Callable[[], BaseRunLogStore]

RUN = "limits"
LONGEST_SENTENCE = 3_000


class Switch:
    """A step's function that does one thing while it is on, and gives 1 from then on."""

    def __init__(self, function: Function) -> None:
        self.on = True
        self.function = self._streaming if inspect.isgeneratorfunction(function) else self._plain
        self._own = function

    def _plain(self) -> Any:
        return self._own() if self.on else 1

    def _streaming(self) -> Iterator[Any]:
        yield from self._own() if self.on else "1"


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory store is one for the process: no test leaves a run in it."""
    monkeypatch.setattr(BufferedRunLogStore, "memory", Memory())


def one(function: Function, **settings: Any) -> Pipeline:
    return Pipeline(steps=[PythonTask(function=function, name="step", **settings)])


async def attached(store: BaseRunLogStore, run_id: str) -> bytes:
    """What goes to a browser that attaches to a run that has ended."""
    async with aclosing(frames(store, run_id, Place(0, 1))) as wire:
        return b"".join([frame async for frame in wire])


async def followed(run_id: str) -> list[BaseEvent]:
    return [event async for event in follow(run_id)]


def check_readable(open_store: Open, run_id: str = RUN) -> tuple[RunLog, list[BaseEvent]]:
    """Read a run in every way there is, and see that they tell the same."""
    store = open_store()
    records = list(store.read(run_id))
    numbers = [event.seq for record in records for event in record.events()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [Record.from_line(record.to_line(), run_id) for record in records] == records
    assert run_id in [found.run_id for found in store.list_runs(limit=10)]
    events = asyncio.run(followed(run_id))
    assert [event.seq for event in events] == numbers
    wire = asyncio.run(attached(store, run_id))
    assert wire.count(b"\nid: ") == len(numbers)
    log = store.get_run_log_by_id(run_id)
    assert log.status == events[-1].type.removeprefix("pipeline_").replace(
        "completed", "success"
    ).replace("error", "fail")
    shown = repr(log) + str(log.parameters) + str(log.steps) + str(log.stored_parameters())
    assert shown.encode()
    assert all(shown for shown in log._repr_mimebundle_().values())
    return log, events


def fails(function: Function, open_store: Open, **settings: Any) -> tuple[BaseException, str]:
    """Run a step that must fail: its own error, and ours; read the run, and resume it."""
    switch = Switch(function)
    with pytest.raises(ExecutionFailedError) as raised:
        one(switch.function, **settings).execute(run_id=RUN)
    check_readable(open_store)
    sentence, cause = str(raised.value), raised.value.__cause__
    assert cause is not None
    assert sentence.startswith("Step 'step' failed: ")
    assert len(sentence) < LONGEST_SENTENCE
    assert "\n" not in sentence
    switch.on = False
    run = one(switch.function, **settings).execute(resume=RUN)
    assert run.status == "success"
    check_readable(open_store)
    return cause, sentence


def works(function: Function, open_store: Open, **settings: Any) -> tuple[RunLog, list[BaseEvent]]:
    """Run a step that must succeed, and read the run."""
    one(function, **settings).execute(run_id=RUN)
    return check_readable(open_store)


def told(cause: BaseException, *parts: str) -> None:
    """Check that a limit's sentence says what was found, what is allowed and what to do."""
    assert isinstance(cause, LimitError)
    for part in parts:
        assert part in str(cause)


# Values


@pytest.mark.parametrize("make", [lambda n: "x" * (n - 2), lambda n: ["x" * (n - 4)]])
def test_a_value_of_64_mib_works_and_a_byte_more_is_an_error(
    each_store: str, open_store: Open, full: bool, make: Callable[[int], Any]
):
    cause, sentence = fails(lambda: make(MAX_VALUE_BYTES + 1), open_store, returns=["x"])
    told(cause, "67,108,865 bytes", "67,108,864 allowed", "write it to a file")
    assert "write it to a file" in sentence
    if full:
        open_store().delete_run(RUN)
        run, _ = works(lambda: make(MAX_VALUE_BYTES), open_store, returns=["x"])
        assert run.parameters["x"] == make(MAX_VALUE_BYTES)


@pytest.mark.parametrize("mixed", [False, True], ids=["text", "list"])
def test_a_streams_value_of_64_mib_works_and_a_byte_more_is_an_error(
    each_store: str, open_store: Open, full: bool, mixed: bool
):
    # A list has its two brackets, and a comma and two quotes an item.
    first: list[Any] = [1] if mixed else []
    around = (2 + 1 + 3 * 64) if mixed else 2

    def gives(over: int) -> Iterator[Any]:
        yield from first
        for _ in range(63):
            yield "x" * MIB
        yield "x" * (MIB - around + over)

    cause, _ = fails(partial(gives, 1), open_store, returns=["x"])
    told(cause, "67,108,865 bytes", "67,108,864 allowed", "write it to a file")
    if full:
        open_store().delete_run(RUN)
        run, _ = works(partial(gives, 0), open_store, returns=["x"])
        value = run.parameters["x"]
        assert isinstance(value, list if mixed else str)
        assert len(value) == (65 if mixed else MAX_VALUE_BYTES - 2)


def test_an_initial_parameter_over_64_mib_is_an_error_that_names_it(own_folder: Path):
    with pytest.raises(LimitError, match=r"parameters\['text'\] is 67,108,865 bytes long"):
        one(lambda text: 1).execute({"text": "x" * (MAX_VALUE_BYTES - 1)})


# Chunks


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "x" * n,
        lambda n: "é" * (n // 2) + "x" * (n % 2),
        lambda n: "\n" * n,
        lambda n: ["x" * (n - 4)],
        lambda n: b"x" * n,
    ],
    ids=["ascii", "text", "escaped", "json", "bytes"],
)
@pytest.mark.parametrize("kept", [[], ["x"]], ids=["not-kept", "kept"])
def test_a_chunk_of_1_mib_works_and_a_byte_more_is_an_error(
    each_store: str, open_store: Open, make: Callable[[int], Any], kept: list[str]
):
    def gives(size: int) -> Iterator[Any]:
        yield "before"
        yield make(size)

    if kept and isinstance(make(4), bytes):
        kept = []  # bytes are no JSON value
    cause, sentence = fails(partial(gives, MAX_CHUNK_BYTES + 1), open_store, returns=kept)
    told(cause, "1,048,577 bytes", "1,048,576 allowed", "Yield smaller chunks")
    assert "Yield smaller chunks" in sentence
    open_store().delete_run(RUN)
    _, events = works(partial(gives, MAX_CHUNK_BYTES), open_store, returns=kept)
    chunks = [event for event in events if isinstance(event, TaskChunkEvent)]
    assert len(chunks) == 2


# Previews, errors, output


def test_what_events_show_of_a_value_is_cut_past_4_kib(each_store: str, open_store: Open):
    def gives() -> tuple[str, str, str]:
        return "x" * (MAX_PREVIEW_BYTES - 2), "x" * (MAX_PREVIEW_BYTES - 1), "\x01é" * 4_000

    run, events = works(gives, open_store, returns=["whole", "cut", "escaped"])
    outputs = events[-1].model_dump()["outputs"]
    assert outputs["whole"] == "x" * (MAX_PREVIEW_BYTES - 2)
    assert outputs["cut"].startswith('"xxx')
    assert outputs["cut"].endswith("… (4,097 bytes)")
    assert "bytes)" in outputs["escaped"]
    assert tuple(run.parameters.values()) == gives()


@pytest.mark.parametrize("letter", ["e", "é", "\x01", "\ud800", "\U0001f600"])
@pytest.mark.parametrize("over", [0, 1, 100 * MIB])
def test_the_text_of_an_error_is_cut_past_64_kib_with_a_mark(
    each_store: str, open_store: Open, full: bool, letter: str, over: int
):
    if over > 1 and letter != "e" and not full:
        over = MIB
    width = len(letter.encode(errors="backslashreplace"))
    text = letter * (MAX_ERROR_BYTES // width) + "e" * (MAX_ERROR_BYTES % width + over)

    def fail() -> None:
        raise ValueError(text)

    began = time.monotonic()
    fails(fail, open_store)
    assert time.monotonic() - began < 30
    step = open_store().get_run_log_by_id(RUN).steps["step"]
    error, trace = step.attempts[0].error or "", step.attempts[0].traceback
    shown = text.encode(errors="backslashreplace").decode()
    if over:
        mark = f"… ({MAX_ERROR_BYTES + over:,} bytes)"
        assert error.endswith(mark)
        assert shown.startswith(error.removesuffix(mark))
    else:
        assert error == shown
    assert len(error.encode()) <= MAX_ERROR_BYTES + 40
    assert len(trace.encode()) <= MAX_ERROR_BYTES + 40


def test_what_a_task_prints_is_cut_past_10_mib_with_a_mark(
    each_store: str, open_store: Open, capsys: pytest.CaptureFixture[str]
):
    def prints(over: int) -> Callable[[], None]:
        def body() -> None:
            for _ in range(MAX_OUTPUT_BYTES // KIB):
                print("y" * (KIB - 1))
            print("z" * over, end="")

        return body

    def printed(events: list[BaseEvent]) -> str:
        return "".join(event.text for event in events if isinstance(event, TaskLogEvent))

    _, events = works(prints(0), open_store)
    assert len(printed(events)) == MAX_OUTPUT_BYTES
    open_store().delete_run(RUN)
    _, events = works(prints(1), open_store)
    assert printed(events).endswith("y\n" + CUT)
    assert len(printed(events)) == MAX_OUTPUT_BYTES + len(CUT)
    capsys.readouterr()


# Names, and how many


def test_a_run_id_of_128_characters_works_and_one_more_is_an_error(
    each_store: str, open_store: Open
):
    longest = "r" * MAX_RUN_ID
    one(lambda: 1).execute(run_id=longest)
    check_readable(open_store, longest)
    calls = [
        lambda: one(lambda: 1).execute(run_id=longest + "r"),
        lambda: one(lambda: 1).execute(resume=longest + "r"),
    ]
    for call in calls:
        with pytest.raises(InvalidNameError) as raised:
            call()
        assert "The run id 'rrr" in str(raised.value)
        assert "(129 characters) is longer than 128 characters. Choose" in str(raised.value)


def letters() -> Iterator[str]:
    """One or two letters of every kind that Unicode has, where a name may have it."""
    seen: dict[str, int] = {}
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(code)) + unicodedata.bidirectional(chr(code))
        if seen.setdefault(kind, 0) < 2 and chr(code) not in "./%":
            seen[kind] += 1
            yield chr(code)


def test_names_of_every_kind_of_unicode_are_kept_or_refused_in_a_sentence(
    each_store: str, open_store: Open
):
    names: list[str] = []
    for letter in letters():
        try:
            names.append(PythonTask(function=len, name=f"a{letter}b").name)
        except InvalidNameError as error:
            refused = unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
            assert refused, ascii(letter)
            assert "contains a control character" in str(error)  # noqa: PT017 – one of many
    assert len(names) > 60
    longest = "\U0001f600" * MAX_NAME
    steps = [PythonTask(function=lambda: 1, name=name) for name in [*names, longest]]
    Pipeline(steps=steps, name=longest * 2).execute(
        {name: name for name in names}, run_id=RUN, tag=longest * 2
    )
    run, _ = check_readable(open_store)
    assert [*run.steps] == [*names, longest]
    assert run.parameters == {name: name for name in names}
    with pytest.raises(InvalidNameError, match=r"\(201 characters\) is longer than 200"):
        PythonTask(function=len, name=longest + "x")
    with pytest.raises(InvalidNameError, match=r"\(201 characters\) is longer than 200"):
        one(lambda: 1).execute({longest + "x": 1})


def nested(levels: int, function: Function) -> Pipeline:
    """A pipeline whose step stands `2 * levels + 1` segments deep if all above it fail."""
    inner = one(function)
    for _ in range(levels):
        inner = Pipeline(steps=[PythonTask(function=divide_by_zero, name="step", on_failure=inner)])
    return inner


def divide_by_zero() -> float:
    return 1 / 0


def test_paths_of_32_segments_work_and_one_more_is_an_error_at_build(
    each_store: str, open_store: Open
):
    switch = Switch(divide_by_zero)
    deepest = nested((MAX_PATH_DEPTH - 1) // 2, switch.function)
    with pytest.raises(ExecutionFailedError) as raised:
        deepest.execute(run_id=RUN)
    assert raised.value.path.count(".") == MAX_PATH_DEPTH - 2
    check_readable(open_store)
    switch.on = False
    assert deepest.execute(resume=RUN).status == "success"
    check_readable(open_store)
    for levels in (16, 1_000):
        with pytest.raises(GraphError, match="33 segments deep, deeper than the 32 allowed"):
            nested(levels, divide_by_zero)


def test_a_thousand_parameters_of_some_kib_work_and_one_more_is_an_error(
    each_store: str, open_store: Open
):
    many = {f"p{i}": ["x" * 8 * KIB] for i in range(MAX_PARAMETERS)}
    switch = Switch(divide_by_zero)
    with pytest.raises(ExecutionFailedError):
        one(switch.function).execute(many, run_id=RUN)
    check_readable(open_store)
    switch.on = False
    assert one(switch.function).execute(resume=RUN).parameters == many
    check_readable(open_store)
    with pytest.raises(LimitError, match="1,001 names long, more than the 1,000 allowed"):
        one(switch.function).execute({**many, "q": 1})


def test_a_step_that_makes_the_parameters_too_many_is_an_error_that_names_it(
    each_store: str, open_store: Open
):
    names = [f"p{i}" for i in range(MAX_PARAMETERS)]
    pipeline = one(lambda: tuple(range(MAX_PARAMETERS)), returns=names)
    assert pipeline.execute(run_id=RUN).parameters == dict(zip(names, range(1_000), strict=True))
    check_readable(open_store)
    with pytest.raises(ExecutionFailedError) as raised:
        pipeline.execute({"more": 1}, run_id="more")
    assert raised.value.path == "step"
    told(raised.value.__cause__ or Exception(), "1,001 names", "1,000 allowed", "one mapping")
    check_readable(open_store, "more")


def test_ten_thousand_steps_are_built_run_read_and_resumed(
    each_store: str, open_store: Open, full: bool
):
    n = 10_000 if full else 1_000
    switch = Switch(divide_by_zero)
    steps = [Stub(name=f"s{i}") for i in range(n)]
    pipeline = Pipeline(steps=[*steps, PythonTask(function=switch.function, name="last")])
    with pytest.raises(ExecutionFailedError):
        pipeline.execute(run_id=RUN)
    check_readable(open_store)
    switch.on = False
    run = pipeline.execute(resume=RUN)
    assert (run.status, len(run.steps)) == ("success", n + 1)
    check_readable(open_store)


def test_a_sentence_about_many_names_gives_ten(own_folder: Path):
    names = [f"a name of some length {i}" for i in range(MAX_PARAMETERS)]
    with pytest.raises(RunnableError) as raised:
        one(lambda name_of_some_length: 1).execute(dict.fromkeys(names))
    assert len(str(raised.value)) < LONGEST_SENTENCE
    assert "and 990 more" in str(raised.value)
    assert nearest("a name of some length 999", names)[0] in names
    steps = [PythonTask(function=lambda: 1, name=f"s{i}") for i in range(1_000)]
    Pipeline(steps=[Stub(name="a"), *steps, PythonTask(function=divide_by_zero, name="z")])
    with pytest.raises(ExecutionFailedError):
        Pipeline(steps=[PythonTask(function=divide_by_zero, name="z")]).execute(run_id=RUN)
    with pytest.raises(RunnableError) as raised:
        Pipeline(steps=steps).execute(resume=RUN)
    assert len(str(raised.value)) < LONGEST_SENTENCE


# Files


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: " + "x" * (MAX_YAML_BYTES - 2), "is longer than the 1,048,576 bytes allowed"),
        ("a: " + "[" * 200_000, "is nested more than 100 deep"),
        ("a: " + "9" * 5_000, "holds a number of more digits than Python reads"),
        ("a: .nan", "holds what JSON cannot hold: ['a'] is the float nan"),
        ('a: "\\ud800"', "is not valid YAML"),
        (
            "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)),
            "repeats more than 1,048,576 characters through aliases",
        ),
        ("? [a]\n: 1", "has a key that is not text"),
        ("[1]", "holds a list, not a mapping"),
    ],
)
def test_a_parameters_file_over_a_limit_is_an_error_before_the_run(
    own_folder: Path, text: str, reason: str
):
    (own_folder / "given.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(ParametersFileError) as raised:
        one(lambda: 1).execute(parameters_file="given.yaml")
    assert f"The parameters file 'given.yaml' {reason}" in str(raised.value)
    assert len(str(raised.value)) < LONGEST_SENTENCE
    assert time.monotonic() - began < 5


def test_a_parameters_file_of_1_mib_works(each_store: str, open_store: Open, own_folder: Path):
    text = "x" * (MAX_YAML_BYTES - 3)
    (own_folder / "given.yaml").write_text(f"a: {text}")
    one(lambda: 1).execute(parameters_file="given.yaml", run_id=RUN)
    run, _ = check_readable(open_store)
    assert run.parameters == {"a": text}


def test_an_empty_everything_works(each_store: str, open_store: Open, own_folder: Path):
    (own_folder / "empty.yaml").write_text("")

    def empty() -> Iterator[str]:
        print("", end="")
        logging.getLogger("").warning("")
        yield ""

    (own_folder / "runnable-config.yaml").write_text(f"run-log-store:\n  type: {each_store}\n")
    pipeline = Pipeline(steps=[PythonTask(function=empty, name="a", returns=["x"])], name="")
    pipeline.execute({}, run_id=RUN, tag="", parameters_file="empty.yaml")
    run, _ = check_readable(open_store)
    assert run.parameters == {"x": ""}
    for refused in (lambda: Stub(name=""), lambda: Pipeline(steps=[])):
        with pytest.raises(RunnableError, match="empty"):
            refused()
    for given in ({"": 1}, {"a": 1, "": None}):
        with pytest.raises(InvalidNameError, match="The parameter name '' is empty"):
            one(lambda: 1).execute(given)


# What no list names: errors


class Silent(Exception):
    """Refuses to say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Numeric(Exception):
    """Says what it is with what is no text."""

    def __str__(self) -> str:
        return 5  # pyright: ignore[reportReturnType] -- the fault that is tested


class Text(str):
    """Text that refuses to be handled."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        raise RuntimeError("no")

    def splitlines(self, keepends: bool = False) -> list[str]:
        raise RuntimeError("no")


class Wordy(Exception):
    """Says what it is with text of a class of its own."""

    def __str__(self) -> str:
        return Text("words")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to be changed."""

    code: int


class Closed(Exception):
    """Refuses every attribute."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("no")


class Noted(Exception):
    """Has notes that are none."""

    __notes__ = 5  # pyright: ignore[reportAssignmentType] -- the fault that is tested


def chain() -> BaseException:
    error = ValueError("first")
    for number in range(5_000):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    return error


def groups() -> BaseException:
    error: Any = ValueError("first")
    for _ in range(5_000):
        error = ExceptionGroup("group", [error])
    return error


def circle() -> BaseException:
    error, other = ValueError("one"), ValueError("other")
    error.__cause__, other.__cause__ = other, error
    return error


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Silent, "Silent."),
        (Numeric, "Numeric."),
        (Wordy, "Wordy: words."),
        (lambda: Frozen(7), "Frozen: 7."),
        (Closed, "Closed."),
        (Noted, "Noted."),
        (ValueError, "ValueError."),
        (lambda: ValueError("\n \n the third line\n"), "ValueError:  the third line."),
        (
            lambda: OSError(2, "gone", "not-utf8-\udcff"),
            "OSError: [Errno 2] gone: 'not-utf8-\\udcff'",
        ),
        (lambda: LookupError("\udcff"), "LookupError: \\udcff."),
        (lambda: KeyError("\x1b[31m"), "KeyError: '\\x1b[31m'."),
        (lambda: ValueError("\x1b[31m\x9b"), "ValueError: \\x1b[31m\\x9b."),
        (chain, "ValueError: 4999."),
        (groups, "ExceptionGroup: group (1 sub-exception)."),
        (circle, "ValueError: one."),
        (lambda: type("Odd\x1b", (Exception,), {})(), "Odd\\x1b."),
    ],
)
@pytest.mark.parametrize("retries", [0, 1])
def test_whatever_a_step_raises_is_what_is_told(
    each_store: str, open_store: Open, make: Callable[[], Exception], reason: str, retries: int
):
    error = make()

    def fail() -> None:
        raise error

    cause, sentence = fails(fail, open_store, retries=retries, backoff=0)
    assert cause is error
    reason = reason.replace("OSError: [Errno 2]", f"{type(error).__name__}: [Errno 2]")
    assert sentence.startswith(f"Step 'step' failed: {reason}")
    first = open_store().get_run_log_by_id(RUN).steps["step"].attempts[0]
    assert first.error_type == type(error).__name__
    assert (first.traceback or "").encode()


@pytest.mark.parametrize("kind", ["sync", "async", "generator", "async-generator"])
@pytest.mark.parametrize("timeout", [None, 30.0])
async def test_a_frozen_exception_comes_through_every_kind_of_function(
    kind: str, timeout: float | None
):
    def sync() -> None:
        raise Frozen(1)

    async def coroutine() -> None:
        raise Frozen(2)

    def generator() -> Iterator[int]:
        yield 1
        raise Frozen(3)

    async def async_generator():
        yield 1
        raise Frozen(4)

    functions = [sync, coroutine, generator, async_generator]
    function = functions[["sync", "async", "generator", "async-generator"].index(kind)]
    step = PythonTask(function=function, name="step", timeout=timeout)
    with pytest.raises(ExecutionFailedError) as raised:
        await AsyncPipeline(steps=[step]).execute()
    assert isinstance(raised.value.__cause__, Frozen)
    with pytest.raises(ExecutionFailedError) as raised:
        await asyncio.to_thread(Pipeline(steps=[step]).execute)
    assert isinstance(raised.value.__cause__, Frozen)


def test_a_retry_on_that_fails_with_a_frozen_exception_is_only_noted(
    each_store: str, open_store: Open
):
    def broken(_: BaseException) -> bool:
        raise RuntimeError("\x1b[31mno")

    def fail() -> None:
        raise ValueError("mine")

    cause, _ = fails(fail, open_store, retries=2, retry_on=broken)
    assert cause.__notes__ == [
        "retry_on of the step failed, so it is not tried again: RuntimeError: \\x1b[31mno"
    ]

    def freeze() -> None:
        raise Frozen(1)

    open_store().delete_run(RUN)
    cause, _ = fails(freeze, open_store, retries=2, retry_on=broken)
    assert isinstance(cause, Frozen)


# What no list names: values


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


VALUES = [
    (lambda: deep(101), "is nested deeper than 100 levels"),
    (lambda: deep(100_000), "is nested deeper than 100 levels"),
    (lambda: {"a" * 200: deep(200)}, "is nested deeper than 100 levels"),
    (lambda: 10**5_000, "is an integer of more than 4,300 digits"),
    (lambda: [-(10**4_300)], "is an integer of more than 4,300 digits"),
    (lambda: float("nan"), "is the float nan"),
    (lambda: {"a": [float("-inf")]}, "is the float -inf"),
    (lambda: "a\ud800", "has half of a character"),
    (lambda: {"\udfff": 1}, "has half of a character"),
    (lambda: {1: 2}, "has a key of type int"),
    (lambda: {1, 2}, "is of type set"),
]


@pytest.mark.parametrize(("make", "reason"), VALUES)
@pytest.mark.parametrize("how", ["returned", "yielded", "kept", "emitted"])
def test_what_json_cannot_hold_is_an_error_that_says_where(
    each_store: str, open_store: Open, make: Callable[[], Any], reason: str, how: str
):
    def yields() -> Iterator[Any]:
        yield make()

    function = {"returned": make, "emitted": lambda: current().emit(make())}.get(how, yields)
    returns = ["x"] if how in ("returned", "kept") else []
    cause, sentence = fails(function, open_store, returns=returns)
    assert isinstance(cause, UnencodableError)
    assert reason in sentence
    assert "which JSON cannot hold" in sentence
    assert ("onvert it" in sentence) or "pickled" in sentence


@pytest.mark.parametrize(("make", "reason"), VALUES)
def test_what_a_step_without_returns_gives_back_may_be_anything(
    each_store: str, open_store: Open, make: Callable[[], Any], reason: str
):
    def gives(x: Any = make()) -> Any:  # noqa: B008 – a default is shown, too
        return x

    works(gives, open_store)


def test_integers_of_4300_digits_and_values_100_deep_are_kept_everywhere(
    each_store: str, open_store: Open
):
    value = [10**4_299, deep(98), float("1e308"), -0.0]

    def gives() -> Iterator[Any]:
        yield value
        yield value

    run, events = works(gives, open_store, returns=["x"])
    assert run.parameters == {"x": [value, value]}
    chunks = [event.chunk for event in events if isinstance(event, TaskChunkEvent)]
    assert chunks == [value, value]


def test_chunks_that_are_nested_too_deep_for_a_list_are_an_error_however_large(
    each_store: str, open_store: Open
):
    def gives() -> Iterator[Any]:
        yield "x" * MIB
        yield {"wide": [[i] for i in range(1_000)]}
        yield deep(100)

    cause, sentence = fails(gives, open_store, returns=["x"])
    assert isinstance(cause, UnencodableError)
    assert cause.place.startswith("result[2][0]")
    assert "is nested deeper than 100 levels" in sentence


def test_a_wide_chunk_is_no_deep_one(each_store: str, open_store: Open):
    wide = {"wide": [[i] for i in range(1_000)]}

    def gives() -> Iterator[Any]:
        yield wide
        yield "[" * 1_000

    run, _ = works(gives, open_store, returns=["x"])
    assert run.parameters == {"x": [wide, "[" * 1_000]}


def test_what_is_printed_and_logged_is_kept_whatever_it_is(
    each_store: str,
    open_store: Open,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    # The handlers of pytest would report it, and cannot.
    monkeypatch.setattr(logging.getLogger("mine"), "propagate", False)
    strange = "\x00\x1b[31m\x9b\u202e\ud800\udfff\ufffe\U0010ffff"

    def prints() -> None:
        print(strange, float("nan"))
        logging.getLogger("mine").error("%s %s", float("nan"), strange)

    _, events = works(prints, open_store)
    text = "".join(event.text for event in events if isinstance(event, TaskLogEvent))
    shown = strange.encode(errors="backslashreplace").decode()
    assert text == f"{shown} nan\nERROR mine: nan {shown}\n"
    capsys.readouterr()


SURROGATE = "a\ud800b"


@pytest.mark.parametrize(
    "call",
    [
        lambda: PythonTask(function=len, name=SURROGATE),
        lambda: PythonTask(function=len, name="a", returns=[SURROGATE]),
        lambda: Pipeline(steps=[Stub(name="a")], name=SURROGATE),
        lambda: one(lambda: 1).execute({SURROGATE: 1}),
        lambda: one(lambda: 1).execute({"x": SURROGATE}),
        lambda: one(lambda: 1).execute({"x": {SURROGATE: 1}}),
        lambda: one(lambda: 1).execute(tag=SURROGATE),
        lambda: one(lambda: 1).execute(run_id=SURROGATE),
        lambda: one(lambda: 1).execute(resume=SURROGATE),
        lambda: one(lambda: 1).execute(log_level=SURROGATE),
        lambda: one(lambda: 1).execute(parameters_file=SURROGATE),
        lambda: one(lambda: 1).execute(configuration_file=SURROGATE),
        lambda: one(lambda: 1).execute(parameters_file="a\0b"),
        lambda: one(lambda: 1).execute(configuration_file="a\0b"),
    ],
    ids=range(14),
)
def test_half_of_a_character_is_refused_in_a_sentence_wherever_it_is_given(
    own_folder: Path, call: Callable[[], object]
):
    with pytest.raises(RunnableError) as raised:
        call()
    assert isinstance(raised.value, ValueError)
    assert str(raised.value).encode()


@pytest.mark.parametrize("path", ["a\0b/runs.db", "a/b\0", f"{SURROGATE}/runs.db", "x" * 300])
def test_a_store_whose_path_cannot_be_is_refused_in_a_sentence(own_folder: Path, path: str):
    with pytest.raises(StoreError) as raised:
        SQLiteRunLogStore(path=Path(path)).list_runs(limit=1)
    assert str(raised.value).encode()
    assert "another path" in str(raised.value)


# What no list names: recursion


def prints_for_ever(depth: int = 0) -> None:
    print("deep", depth)
    prints_for_ever(depth + 1)


def emits_for_ever(depth: int = 0) -> None:
    current().emit(f"deep {depth}")
    emits_for_ever(depth + 1)


def logs_for_ever(depth: int = 0) -> None:
    logging.getLogger("mine").warning("deep %s", depth)
    logs_for_ever(depth + 1)


async def prints_for_ever_async(depth: int = 0) -> None:
    print("deep", depth)
    await prints_for_ever_async(depth + 1)


async def emits_for_ever_async(depth: int = 0) -> None:
    await current().emit(f"deep {depth}")
    await emits_for_ever_async(depth + 1)


FOR_EVER: list[Function] = [
    prints_for_ever,
    emits_for_ever,
    logs_for_ever,
    prints_for_ever_async,
    emits_for_ever_async,
]


@pytest.mark.parametrize("function", FOR_EVER)
def test_a_recursion_without_end_is_told_as_what_it_is(
    each_store: str, open_store: Open, function: Function, capsys: pytest.CaptureFixture[str]
):
    pipeline = one(function)
    for times in range(3):  # in each, commits fall due in other places of the way down
        with pytest.raises(ExecutionFailedError) as raised:
            pipeline.execute(run_id=f"{RUN}-{times}")
        assert isinstance(raised.value.__cause__, RecursionError)
        check_readable(open_store, f"{RUN}-{times}")
    capsys.readouterr()


@pytest.mark.parametrize("function", FOR_EVER)
@pytest.mark.parametrize("thread", [False, True], ids=["inline", "thread"])
def test_a_task_that_runs_into_the_end_of_its_stack_again_and_again_leaves_no_gap(
    each_store: str,
    open_store: Open,
    function: Function,
    thread: bool,
    full: bool,
    capsys: pytest.CaptureFixture[str],
):
    times = 60 if full else 12

    def body() -> int:
        for _ in range(times):
            with pytest.raises(RecursionError):
                function()
            until = time.perf_counter() + 0.0025  # so that the next chunk is committed at once
            while time.perf_counter() < until:
                pass
        return 1

    async def body_async() -> int:
        for _ in range(times):
            with pytest.raises(RecursionError):
                await function()
            await asyncio.sleep(0)
        return 1

    is_async = function.__name__.endswith("_async")
    step = PythonTask(function=body_async if is_async else body, name="step", returns=["x"])
    if thread:
        asyncio.run(AsyncPipeline(steps=[step]).execute(run_id=RUN))
    else:
        Pipeline(steps=[step]).execute(run_id=RUN)
    run, _ = check_readable(open_store)
    assert run.parameters == {"x": 1}
    capsys.readouterr()


def test_a_run_begun_where_the_stack_ends_is_an_error_and_the_next_one_works(
    each_store: str, open_store: Open
):
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            one(lambda: 1).execute()

    refused: list[type[BaseException]] = []
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit(), 20):
        try:
            down(depth)
        except (RecursionError, RunnableError) as error:
            refused.append(type(error))
    assert refused
    works(lambda: 1, open_store)
