"""Commands of a shell as steps: their variables, what they write, how they end."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from runnable import (
    AsyncPipeline,
    ExecutionFailedError,
    Map,
    Parallel,
    Pipeline,
    PythonTask,
    ShellTask,
)
from runnable.events import TaskErrorEvent, TaskLogEvent
from runnable.exceptions import (
    CheckError,
    DefinitionError,
    LimitError,
    SecretLeakError,
    ShellError,
    ShellReturnsError,
    StepTimeoutError,
    VariableError,
)
from runnable.proc import process_start, was_given
from runnable.sdk import json, metric, pickled
from runnable.tasks import ShellTaskType
from runnable.testing.simulation import simulate


@pytest.fixture(autouse=True)
def in_memory(configure: Callable[[str], Path]) -> None:
    configure("run-log-store:\n  type: buffered\n")


def step(command: str, *returns: Any, **settings: Any) -> ShellTask:
    return ShellTask(name="s", command=command, returns=list(returns), **settings)


def values_of(command: str, *returns: Any, **parameters: Any) -> dict[str, Any]:
    run = Pipeline(steps=[step(command, *returns)]).execute(parameters)
    return {name: value for name, value in run.parameters.items() if name not in parameters}


def failure_of(command: str, *returns: Any, **settings: Any) -> BaseException:
    parameters = settings.pop("parameters", {})
    with pytest.raises(ExecutionFailedError) as raised:
        Pipeline(steps=[step(command, *returns, **settings)]).execute(parameters)
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


def logs_of(
    command: str, parameters: dict[str, Any] | None = None, **settings: Any
) -> list[tuple[str, str]]:
    events = Pipeline(steps=[step(command, **settings)]).execute_stream(parameters or {})
    return [(event.stream, event.text) for event in events if isinstance(event, TaskLogEvent)]


async def until(file: Path) -> str:
    """What is in a file, once it is there."""
    async with asyncio.timeout(20):
        while not (await asyncio.to_thread(file.exists)):
            await asyncio.sleep(0.01)
    return await asyncio.to_thread(file.read_text)


# -- what it is given


def test_parameters_are_variables_and_never_a_part_of_the_command(own_folder: Path):
    evil = "\"; touch evil; $(touch evil) `touch evil` '; touch evil #"
    assert values_of('got="$text"', "got", text=evil) == {"got": evil}
    assert values_of("eval :; got=$1$#", "got", text=evil) == {"got": 0}
    assert not (own_folder / "evil").exists()


def test_what_is_no_text_is_a_variable_of_json():
    got = values_of('all="$n $b $o $l"', "all", n=1, b=True, o=None, l=[1, {"a": "é"}])
    assert got == {"all": '1 true null [1,{"a":"é"}]'}


async def test_it_knows_its_run_and_finds_nothing_on_its_standard_input():
    command = (
        'read x; at_end=$?; told="$RUNNABLE_RUN_ID $RUNNABLE_STEP_PATH $RUNNABLE_STEP_ATTEMPT"'
    )
    pipeline = AsyncPipeline(steps=[step(command, "at_end", "told")])
    run = await pipeline.execute(run_id="known")
    assert run.parameters == {"at_end": 1, "told": "known s 1"}


def test_it_leads_a_session_of_its_own_in_the_current_folder(own_folder: Path):
    got = values_of(
        'pid=$$; ids=$(cut -d" " -f5,6 /proc/$$/stat); here=$(pwd)', "pid", "ids", "here"
    )
    assert got == {"pid": got["pid"], "ids": f"{got['pid']} {got['pid']}", "here": str(own_folder)}


def test_a_parameter_that_programs_obey_is_left_out_and_its_log_says_so():
    parameters = {"PATH": "/nowhere", "LD_PRELOAD": "/evil.so", "IFS": "o", "BASH_ENV": "evil"}
    logs = logs_of('ls / > /dev/null; echo "$PATH"; set -- "foo boo"; echo $1', parameters)
    [(_, warning)] = [one for one in logs if one[0] == "stderr"]
    assert warning.startswith("WARNING Not among the variables of the command: 'PATH' (programs")
    assert all(name in warning for name in parameters)
    assert "".join(text for stream, text in logs if stream == "stdout") == (
        f"{os.environ['PATH']}\nfoo boo\n"
    )


def test_a_parameter_that_no_variable_can_hold_is_an_error_if_the_command_reads_it():
    large = {"x": "y" * 200_000}
    error = failure_of("echo ${x} done", parameters=large)
    assert type(error) is VariableError
    assert "reads $x" in str(error)
    assert "it is 200,000 bytes long, and the system takes 128 KiB" in str(error)
    logs = logs_of("echo done $xy $", large)
    assert [text.partition(":")[0] for _, text in logs] == [
        "WARNING Not among the variables of the command",
        "done $\n",
    ]


def test_such_an_error_is_not_tried_again():
    events = list(Pipeline(steps=[step("use $x", retries=3)]).execute_stream({"x": "a\0b"}))
    [failed] = [event for event in events if isinstance(event, TaskErrorEvent)]
    assert (failed.error_type, failed.will_retry) == ("VariableError", False)
    assert "it has a NUL character in it" in failed.error


def test_parameters_that_are_too_large_together_are_an_error_that_names_the_largest():
    parameters = {f"x{number}": "y" * 100_000 for number in range(40)} | {"z": "y" * 120_000}
    error = failure_of("true", parameters=parameters)
    assert type(error) is LimitError
    assert "The largest variable is 'z', of 120,003 bytes" in str(error)


def test_it_gets_its_own_secrets_alone_and_they_are_masked_in_what_it_writes(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MINE", "swordfish-1")
    monkeypatch.setenv("THEIRS", "mackerel-22")
    command = (
        'echo "a $MINE"; printf "b swordf"; printf "ish-1\\n" >&1; echo "[$THEIRS]"; '
        'echo "c $MINE" >&2; exit 3'
    )
    other = ShellTask(name="other", command="true", secrets=["THEIRS"])
    pipeline = Pipeline(steps=[step(command, secrets=["MINE"]), other])
    events = list(pipeline.execute_stream())
    told = "".join(repr(event) for event in events)
    assert "swordfish" not in told
    assert "mackerel" not in told
    text = "".join(event.text for event in events if isinstance(event, TaskLogEvent))
    assert sorted(text.splitlines()) == ["[]", "a *****", "b *****", "c *****"]
    [error] = [event for event in events if event.type == "task_error"]
    assert "ended with exit status 3: c *****" in repr(error)


def test_a_secret_is_in_no_argument_of_its_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINE", "swordfish-1")
    command = """
    case "$(tr '\\0' ' ' < /proc/$$/cmdline)" in *"$MINE"*) found=yes;; *) found=no;; esac
    """
    run = Pipeline(steps=[step(command, "found", secrets=["MINE"])]).execute({"x": "y"})
    assert run.parameters["found"] == "no"


def test_a_secret_that_it_returns_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINE", "swordfish-1")
    assert type(failure_of("x=$MINE", "x", secrets=["MINE"])) is SecretLeakError


# -- what it returns


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("export x=5", 5),
        ("x=5", 5),
        ("x=text", "text"),
        ("x=", ""),
        ("x='a\nb\n\n'", "a\nb\n\n"),
        ("x='{\"a\": [1, 2.5, null]}'", {"a": [1, 2.5, None]}),
        ("x='\"quoted\"'", "quoted"),
        ("x=007", "007"),
        ("x=NaN", "NaN"),
        ("x=-", "-"),
        ("x='%s\\0\\n'", "%s\\0\\n"),
        ("x='a=b=c'", "a=b=c"),
        ("x='é ß 🦊'", "é ß 🦊"),
        ("x=$(printf 'a\\001\\033b')", "a\x01\x1bb"),
        ("x=1; exit 0", 1),
        ("x=1; exit", 1),
        ("x=1; trap 'echo bye' EXIT", 1),
        ("set -eux; x=1", 1),
        ("x=1; false; true", 1),
        ("x=1; set -- a b c; PATH=/nowhere; unset HOME", 1),
        ("x=1; (exit 3) || true; (x=2; exit 0)", 1),
        ("printf() { echo mine; }; x=1", 1),
        ("x=1; cd /; umask 777", 1),
        ("x=1; exec 3>&1 9>&1; exec >&- 2>&-", 1),
        ("cat > /dev/null <<END\nshift\nEND\nx=1", 1),
        ("# a comment\nx=1 # another", 1),
        ("x=1 &\nwait; x=2", 2),
    ],
)
def test_a_variable_comes_back_as_it_was_set(command: str, value: object):
    assert values_of(command, "x") == {"x": value}


def test_a_large_variable_comes_back_though_no_program_could_be_started_with_it():
    got = values_of("x=$(seq 200000); export x", "x")["x"]
    assert got == "\n".join(str(number) for number in range(1, 200_001))


def test_a_parameter_of_that_name_counts_as_set_and_an_inherited_variable_does_not(
    monkeypatch: pytest.MonkeyPatch,
):
    run = Pipeline(steps=[step("count=$((count + 1))", "count")]).execute({"count": 4})
    assert run.parameters["count"] == 5
    monkeypatch.setenv("total", "7")
    assert type(failure_of("echo", "total")) is ShellReturnsError


@pytest.mark.parametrize("command", ["true", "(x=1)", "sh -c 'x=1; export x'", "x=1; unset x"])
def test_a_declared_return_that_was_not_set_is_an_error_that_names_it(command: str):
    error = failure_of(f"y=1; {command}", "y", "x")
    assert isinstance(error, ShellReturnsError)
    assert error.names == ("x",)
    assert "returns the variable x, and has not set that" in str(error)


@pytest.mark.parametrize("command", ["x=1; exec true", "x=1; trap : EXIT; exit 0"])
def test_a_shell_that_cannot_tell_its_variables_is_an_error_that_says_why(command: str):
    assert "`exit` where the command has set a trap on EXIT of its own" in str(
        failure_of(command, "x")
    )


def test_bytes_that_are_no_text_are_an_error_that_names_the_variable():
    error = failure_of("x=$(printf 'a\\377')", "x")
    assert "the variable x, which holds bytes that are no UTF-8 text (at 1)" in str(error)


def test_a_metric_is_a_number_or_other_json_and_no_text():
    run = Pipeline(steps=[step("loss=0.25; rates='[1, 2]'", metric("loss"), metric("rates"))])
    log = run.execute()
    assert log.metrics == {"loss": 0.25, "rates": [1, 2]}
    error = failure_of("loss=low", metric("loss"))
    assert "which is a metric and holds no number" in str(error)


def test_without_returns_no_parameter_is_set():
    assert values_of("x=1; export x") == {}


def test_what_it_returns_is_what_the_next_step_takes():
    def double(rows: list[int]) -> list[int]:
        return [2 * row for row in rows]

    steps = [
        ShellTask(name="s", command='rows="[$(seq -s , 3)]"', returns=[json("rows")]),
        PythonTask(function=double, name="double", returns=["rows"]),
        ShellTask(name="t", command='text="$rows"', returns=["text"]),
    ]
    assert Pipeline(steps=steps).execute().parameters["text"] == [2, 4, 6]


# -- how it ends


def test_an_exit_status_is_an_error_with_the_last_lines_of_stderr():
    error = failure_of("seq 100; seq 20 >&2; echo oh no >&2; exit 7")
    assert isinstance(error, ShellError)
    assert (error.exit_status, error.signal) == (7, None)
    assert error.last_lines == (*map(str, range(12, 21)), "oh no")
    assert str(error).startswith("The command of step 's' ended with exit status 7: oh no\n")


def test_where_it_wrote_nothing_to_stderr_the_last_lines_are_those_of_stdout():
    assert str(failure_of("echo out; false")).startswith(
        "The command of step 's' ended with exit status 1: out"
    )
    assert str(failure_of("false")) == (
        "The command of step 's' ended with exit status 1, and wrote nothing."
    )


def test_a_signal_that_kills_it_is_named():
    error = failure_of("kill -SEGV $$")
    assert isinstance(error, ShellError)
    assert (error.exit_status, error.signal) == (None, "SIGSEGV")


@pytest.mark.parametrize("returns", [(), ("x",)])
def test_a_command_that_is_no_shell_script_fails_as_the_shell_says(returns: tuple[str, ...]):
    assert "yntax error" in str(failure_of("if then", *returns))
    assert "exit status 127" in str(failure_of("no-such-program-here; exit $?", *returns))
    assert "exit status 2" in str(failure_of("echo 'unended", *returns))


def test_it_is_tried_again_and_each_attempt_knows_its_number():
    log = Pipeline(
        steps=[step("n=$RUNNABLE_STEP_ATTEMPT; test $n = 3", "n", retries=2, backoff=0)]
    ).execute()
    assert log.parameters["n"] == 3
    assert [attempt.status for attempt in log.steps["s"].attempts] == ["fail", "fail", "success"]


def test_a_timeout_ends_the_whole_group_and_lets_it_clean_up(own_folder: Path):
    command = """
    trap 'echo cleaning; exit 1' TERM
    sleep 1000 & echo $! > pid
    (sleep 1000; touch never) &
    wait
    """
    error = failure_of(command, timeout=0.5)
    assert type(error) is StepTimeoutError
    assert process_start(int((own_folder / "pid").read_text())) == ""


def test_what_it_writes_when_it_is_told_to_end_is_in_its_log():
    logs = logs_of("trap 'echo cleaning; exit 1' TERM; sleep 1000 & wait", timeout=0.3)
    assert ("stdout", "cleaning\n") in logs


async def test_leaving_a_stream_ends_the_group_before_it_returns(own_folder: Path):
    pipeline = AsyncPipeline(steps=[step("sleep 1000 & echo $! > p; mv p pid; wait")])
    async with aclosing(pipeline.execute_stream()) as events:
        async for event in events:
            if event.type == "task_started":
                pid = int(await until(own_folder / "pid"))
                break
    assert await asyncio.to_thread(process_start, pid) == ""


async def test_a_cancel_ends_a_command_that_is_not_let_go_yet(own_folder: Path):
    async def run() -> None:
        await AsyncPipeline(steps=[step("sleep 1000")]).execute({"mark": str(own_folder)})

    def left() -> list[int]:
        pids = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()]
        return [pid for pid in pids if was_given(pid, f"mark={own_folder}") and process_start(pid)]

    for turns in (0, 5, 20, 40, 60):
        running = asyncio.ensure_future(run())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(left) == []


def test_what_is_left_running_does_not_hold_up_the_step_and_is_ended(own_folder: Path):
    began = time.monotonic()
    values_of("sleep 1000 & echo $! > pid; x=1", "x")
    assert time.monotonic() - began < 30
    assert process_start(int((own_folder / "pid").read_text())) == ""


def test_a_daemon_that_has_left_the_group_and_holds_the_pipes_is_not_waited_for(own_folder: Path):
    began = time.monotonic()
    values_of("setsid sleep 40 & echo $! > pid")
    assert time.monotonic() - began < 30
    os.kill(int((own_folder / "pid").read_text()), 9)


def test_a_command_that_closes_its_pipes_goes_on_to_its_end():
    error = failure_of("exec >&- 2>&-; sleep 0.3; exit 4")
    assert isinstance(error, ShellError)
    assert error.exit_status == 4


# -- what it writes


def test_what_it_writes_is_logged_line_by_line_by_stream():
    logs = logs_of("echo one; echo two >&2; printf 'three'")
    out = "".join(text for stream, text in logs if stream == "stdout")
    assert out == "one\nthree"
    assert "".join(text for stream, text in logs if stream == "stderr") == "two\n"


async def test_it_is_logged_while_the_command_runs_a_part_of_a_line_too(own_folder: Path):
    command = "printf 'Password: '; until [ -e go ]; do sleep 0.05; done; echo given"
    texts: list[str] = []
    async with asyncio.timeout(30):
        async for event in AsyncPipeline(steps=[step(command)]).execute_stream():
            if isinstance(event, TaskLogEvent):
                texts.append(event.text)
                await asyncio.to_thread((own_folder / "go").touch)
    assert texts == ["Password: ", "given\n"]


def test_it_reaches_the_terminal_too(capfd: pytest.CaptureFixture[str]):
    logs_of("echo shown; echo wrong >&2")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("shown\n", "wrong\n")


def test_bytes_that_are_no_text_are_logged_as_escapes():
    logs = logs_of("printf 'a\\377\\000b\\n'")
    assert logs == [("stdout", "a\\udcff\x00b\n")]


async def test_a_hundred_megabytes_are_cut_and_take_no_more_memory_than_ten(
    configure: Callable[[str], Path],
):
    configure("pipeline-executor:\n  type: async-local\n  echo: false\n")

    async def written(megabytes: int) -> int:
        command = f"head -c {megabytes}000000 /dev/zero | tr '\\0' x | fold -w 99; echo end >&2"
        size = 0
        async for event in AsyncPipeline(steps=[step(command)]).execute_stream():
            if isinstance(event, TaskLogEvent) and event.stream == "stdout":
                size += len(event.text)
        return size

    assert 0 < await written(12) - 10 * 1024 * 1024 < 1000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 0 < await written(100) - 10 * 1024 * 1024 < 1000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 24 * 1024


async def test_a_slow_reader_holds_the_command(own_folder: Path):
    stream = AsyncPipeline(steps=[step("head -c 50000000 /dev/zero; touch through")])
    async with aclosing(stream.execute_stream()) as events:
        async for event in events:
            if isinstance(event, TaskLogEvent):
                break
        await asyncio.sleep(0.2)  # long enough for what nothing holds
    assert not await asyncio.to_thread((own_folder / "through").exists)


# -- where it stands


def test_it_runs_in_every_kind_of_branch():
    page = ShellTask(name="page", command="size=${#text}", returns=["size"]).as_pipeline()
    pages = Map(name="pages", branch=page, iterate_on="texts", iterate_as="text")
    both = Parallel(
        name="both",
        branches={
            name: ShellTask(
                name="t", command=f"{name}=$RUNNABLE_STEP_PATH", returns=[name]
            ).as_pipeline()
            for name in ("a", "b")
        },
    )
    run = Pipeline(steps=[pages, both]).execute({"texts": ["one", "three", ""]})
    assert run.parameters["size"] == [3, 5, 0]
    assert (run.parameters["a"], run.parameters["b"]) == ("both.a.t", "both.b.t")


async def test_many_run_at_once_and_no_more_than_there_are_places_for():
    branch = ShellTask(name="s", command="x=$((2 * n))", returns=["x"]).as_async_pipeline()
    pages = Map(name="pages", branch=branch, iterate_on="ns", iterate_as="n")
    run = await AsyncPipeline(steps=[pages]).execute({"ns": list(range(100))})
    assert run.parameters["x"] == [2 * n for n in range(100)]


async def test_it_is_a_task_type_that_is_called_directly():
    attempt = await ShellTaskType(command="x=$n; echo hi", returns=["x"]).execute_command({"n": 3})
    assert attempt.output_parameters["x"].get_value() == 3


def test_a_simulation_runs_no_command_and_takes_its_returns_from_the_parameters(own_folder: Path):
    pipeline = Pipeline(
        steps=[step("touch ran; x=1; exit 3", "x"), ShellTask(name="t", command="y")]
    )
    one, two = (simulate(pipeline, 7, parameters={"x": 5}) for _ in range(2))
    assert one.run.parameters == {"x": 5}
    assert one.journal == two.journal
    failed = simulate(pipeline, 7).run
    assert "a simulation runs no command" in (failed.error or "")
    assert not (own_folder / "ran").exists()


def test_another_command_is_another_digest():
    assert ShellTaskType(command="a").digest() != ShellTaskType(command="b").digest()


# -- what is refused when it is built


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"command": ""}, "is empty"),
        ({"command": " \n\t"}, "is empty"),
        ({"command": "a\0b"}, "NUL character"),
        ({"command": "a\ud800"}, "half of a character"),
        ({"command": "x" * 200_000}, "200,000 bytes long, more than the 131,071 allowed"),
        ({}, "command – is missing"),
        ({"command": 7}, "command – "),
        ({"command": ["ls", "-l"]}, "command – "),
        ({"command": "true", "function": print}, "there is no such field"),
        ({"command": "true", "returns": [pickled("x")]}, "not pickled('x')"),
        ({"command": "true", "returns": ["größe"]}, "a shell takes for no variable"),
        ({"command": "true", "returns": ["PATH"]}, "a variable that programs obey"),
        ({"command": "true", "returns": ["RUNNABLE_RUN_ID"]}, "a variable that programs obey"),
        ({"command": "true", "on_interrupted": "never"}, "on_interrupted – "),
    ],
)
def test_what_cannot_be_run_is_refused(fields: dict[str, Any], reason: str):
    with pytest.raises((DefinitionError, LimitError)) as raised:
        ShellTask(name="s", **fields)
    assert reason in str(raised.value)


# -- what is said before it runs


def report_of(*steps: Any) -> list[tuple[str, str]]:
    report = Pipeline(steps=list(steps)).check()
    return [(one.severity, one.message) for one in (*report.errors, *report.warnings)]


def give() -> object: ...


def test_a_command_may_read_all_there_is_so_nothing_is_said_of_what_it_does_not_name():
    make = PythonTask(function=give, name="make", returns=["x", "y"])
    assert report_of(make, step("./script.sh")) == []


def test_a_name_that_programs_obey_is_warned_of():
    make = PythonTask(function=give, name="make", returns=["PATH"])
    [(severity, message)] = report_of(make, step("echo $PATH"))
    assert severity == "warning"
    assert message.startswith("is not given 'PATH', which an earlier step returns: programs obey")


def test_a_pickled_value_that_the_command_reads_is_an_error_and_another_is_not():
    make = PythonTask(function=give, name="make", returns=[pickled("model")])
    assert report_of(make, step("./use model")) == []
    with pytest.raises(CheckError, match=r"reads \$model, which an earlier step returns as a pick"):
        Pipeline(steps=[make, step("./use ${model:-x}")])


def test_a_return_that_the_command_does_not_name_is_warned_of():
    assert report_of(step(". ./vars.sh; x=1", "x")) == []
    [(severity, message)] = report_of(step(". ./vars.sh; xy=1", "x"))
    assert severity == "warning"
    assert message.startswith("returns x, which its command does not name")
