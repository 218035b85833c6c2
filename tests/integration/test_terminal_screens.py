"""Every screen of a run in a real terminal reads well, and the terminal stays as it should be."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.integration.tmux import PATIENCE, Tmux

SPINNERS = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@pytest.fixture
def terminal(own_folder: Path) -> Iterator[Callable[..., Tmux]]:
    """Opens a terminal of some size; gates are there to hold scripts at."""
    opened: list[Tmux] = []
    for gate in ("go", "go2"):
        os.mkfifo(own_folder / gate)

    def opening(width: int = 80, height: int = 24) -> Tmux:
        opened.append(Tmux(own_folder, width, height))
        return opened[-1]

    yield opening
    for one in opened:
        one.kill()


def shape(screen: str) -> list[str]:
    """The screen with what differs from run to run replaced: run ids, times, spinners."""
    text = re.sub(r"[a-z]+-[a-z]+-[0-9a-f]{10}", "RUN", screen)
    text = re.sub(r" +(<0\.1 s|\d+\.\d s)(?=  )", " 0.0 s", text)
    text = re.sub(r"\d+:\d\d\b", "0:00", text)
    return [line.rstrip() for line in re.sub(f"[{SPINNERS}]", "*", text).split("\n")]


THREE = """
    def load() -> int:
        return 1

    def transform(x: int) -> int:
        hold()
        return x

    Pipeline(name="report", steps=[
        PythonTask(function=load, name="load", returns=["x"]),
        PythonTask(function=transform, name="transform", returns=["x"]),
        PythonTask(function=nothing, name="save"),
    ]).execute()
"""


def test_a_run_shows_its_steps_while_it_goes_and_keeps_them_when_it_has_ended(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run(THREE)

    assert shape(shown.until("transform")) == [
        "* report · RUN",
        "  ✓ 0.0 s  load",
        "  * 0.0 s  transform",
        "  1 of 3 done · 0:00",
    ]
    assert shown.shows_cursor
    shown.go()
    assert shape(shown.ended()) == [
        "✓ report · RUN",
        "  ✓ 0.0 s  load",
        "  ✓ 0.0 s  transform",
        "  ✓ 0.0 s  save",
        "  3 of 3 done · 0:00",
        "rc=0",
    ]


def test_two_hundred_steps_take_no_more_than_ten_rows(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        steps = [PythonTask(function=nothing, name=f"step {i}") for i in range(200)]
        steps[150] = PythonTask(function=hold, name="step 150")
        Pipeline(steps=steps).execute()
    """)

    assert shape(shown.until("150 of 200")) == [
        "* RUN",
        "  … 144 earlier",
        *[f"  ✓ 0.0 s  step {i}" for i in range(144, 150)],
        "  * 0.0 s  step 150",
        "  150 of 200 done · 0:00",
    ]
    shown.go()
    assert shape(shown.ended())[-4:-1] == [
        "  ✓ 0.0 s  step 198",
        "  ✓ 0.0 s  step 199",
        "  200 of 200 done · 0:00",
    ]
    assert len(shown.history) == 11


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 50), (20, 5)])
@pytest.mark.parametrize("name", ["very long " * 20, "読み込む段階 " * 28, "🚀🛰️👩‍🚀" * 33])
def test_names_are_cut_at_the_width_of_the_terminal(
    terminal: Callable[..., Tmux], width: int, height: int, name: str
) -> None:
    shown = terminal(width, height)
    name = name[:200].strip()
    shown.run(f"""
        steps = [
            PythonTask(function=nothing, name={name[1:]!r}),
            PythonTask(function=hold, name={name!r}),
        ]
        Pipeline(name={name!r}, steps=steps).execute()
    """)

    screen = shown.until(lambda text: "1 of 2" in text)
    lines = screen.split("\n")
    assert len(lines) == (4 if height > 5 else 1)
    assert [line for line in lines if cell_len(line) >= width] == []
    assert sum("…" in line for line in lines) >= 1
    shown.go()
    ended = shown.ended().split("\n")
    assert len(ended) == len(lines) + 1
    assert ended[0][0] == "✓"


def test_a_retry_shows_why_and_which_attempt(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        tries = []

        async def flaky():
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("away [red]x[/red]\\nsecond line")
            await ahold()

        step = AsyncPythonTask(function=flaky, name="flaky", retries=1, backoff=0.5)
        asyncio.run(AsyncPipeline(steps=[step]).execute())
    """)

    assert "  ↻ 0.0 s  flaky  ConnectionError: away [red]x[/red]" in shape(shown.until("away"))
    assert "  * 0.0 s  flaky (attempt 2)" in shape(shown.until("attempt 2"))
    shown.go()
    assert "  ✓ 0.0 s  flaky (attempt 2)" in shape(shown.ended())


@pytest.mark.parametrize("kind", ["Pipeline", "AsyncPipeline"])
def test_a_failure_leaves_its_summary_above_the_traceback_and_ends_with_the_sentence(
    terminal: Callable[..., Tmux], kind: str
) -> None:
    shown = terminal(height=50)
    shown.run(f"""
        def broken():
            raise ValueError("no file \\x1b[31mthere\\nmore")

        steps = [
            PythonTask(function=nothing, name="fine"),
            PythonTask(function=broken, name="broken"),
        ]
        running = {kind}(name="report", steps=steps).execute()
        asyncio.run(running) if asyncio.iscoroutine(running) else None
    """)

    shown.ended(1)
    lines = shape("\n".join(shown.history))
    assert lines[:5] == [
        "✗ report · RUN",
        "  ✓ 0.0 s  fine",
        "  ✗ 0.0 s  broken  ValueError: no file \\x1b[31mthere",
        "  1 of 2 done · 1 failed · 0:00",
        "Traceback (most recent call last):",
    ]
    assert lines[-2].startswith(
        r"runnable.exceptions.ExecutionFailedError: Step 'broken' failed: "
        r"ValueError: no file \x1b[31mthere. Resume with "
    )
    assert lines[-2].endswith("RUNNABLE_RETRY_RUN_ID=RUN python script.py")
    assert shown.shows_cursor


def test_ten_thousand_printed_lines_stand_above_whole_and_in_order(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run("""
        def loud():
            for i in range(10_000):
                print("line", i, "x" * 20)
            hold()

        Pipeline(steps=[PythonTask(function=loud, name="loud")]).execute()
    """)

    shown.until(lambda text: "line 9999" in text and "0 of 1 done" in text)
    shown.go()
    shown.ended()
    lines = shown.history
    assert shape("\n".join(lines[-4:])) == [
        "✓ RUN",
        "  ✓ 0.0 s  loud",
        "  1 of 1 done · 0:00",
        "rc=0",
    ]
    above = lines[:-4]
    assert above == [f"line {i} {'x' * 20}" for i in range(10_000 - len(above), 10_000)]
    assert len(above) > 1_000


NASTY = r"""
    logging.basicConfig()

    def nasty():
        print("\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b32m \u202eturned [red]x[/red]")
        print("\x1b[2J\x1b[1;1Htop\ttab", file=sys.stderr)
        sys.stdout.buffer.write(b"octets \xff \x1b[5mblink\n")
        logging.error("logged \x1b[4mline")
        print("part \x1b[7m", end="", flush=True)
        hold()
        print("whole")
        try:
            raise ValueError("\x1b[8mhidden")
        except ValueError:
            logging.exception("oh")

    Pipeline(name="\x1b[41mname", steps=[PythonTask(function=nasty, name="[b]nasty")]).execute()
"""


def test_raw_escape_sequences_from_a_task_never_reach_the_terminal(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run(NASTY)

    screen = shown.until("part")
    assert screen.split("\n")[:4] == [
        r"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b32m \u202eturned [red]x[/red]",
        r"\x1b[2J\x1b[1;1Htop     tab",
        r"octets \udcff \x1b[5mblink",
        r"ERROR:root:logged \x1b[4mline",
    ]
    assert r"  │ [b]nasty: part \x1b[7m" in screen
    assert r"\x1b[41mname · " in screen
    shown.go()
    assert "part \\x1b[7mwhole\nERROR:root:oh\n" in shown.ended()

    raw = shown.raw.read_bytes().decode()
    sent = {text.replace("\\x1b", "\x1b") for text in re.findall(r"\\x1b\[[0-9;]*[a-zA-Z]", NASTY)}
    sent.remove("\x1b[0m")  # the display's colours end so, too
    assert len(sent) == 8
    assert {text for text in sent if text in raw} == set()
    assert "\x1b]" not in raw
    assert not re.search(r"[\x07\x80-\x9f\u202e]", raw)


def test_a_bar_that_paints_its_line_over_is_one_line(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        def bar():
            for i in range(0, 101, 10):
                sys.stderr.write(f"\\r{i:3d} % {'#' * (i // 10)}")
                sys.stderr.flush()
                if i == 50:
                    hold()
            sys.stderr.write("\\n")

        Pipeline(steps=[PythonTask(function=bar, name="bar")]).execute()
    """)

    assert shape(shown.until("50 %")) == [
        "* RUN",
        "  * 0.0 s  bar",
        "  0 of 1 done · 0:00",
        "  │ bar:  50 % #####",
    ]
    shown.go()
    assert shape(shown.ended())[:2] == ["100 % ##########", "✓ RUN"]


def test_log_lines_of_a_handler_stand_above(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        logging.basicConfig(level=logging.INFO)

        def logs():
            for i in range(500):
                logging.info("info %d", i)
            hold()
            logging.getLogger("own").warning("late")

        Pipeline(steps=[PythonTask(function=logs, name="logs")]).execute(log_level="INFO")
    """)

    shown.until(lambda text: "INFO:root:info 499" in text and "0 of 1 done" in text)
    shown.go()
    shown.ended()
    lines = shown.history
    assert lines[:500] == [f"INFO:root:info {i}" for i in range(500)]
    assert lines[500] == "WARNING:own:late"
    assert shape("\n".join(lines[501:])) == [
        "✓ RUN",
        "  ✓ 0.0 s  logs",
        "  1 of 1 done · 0:00",
        "rc=0",
    ]


def test_log_lines_that_no_handler_shows_are_the_last_row(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        def logs():
            logging.getLogger("own").setLevel("INFO")
            logging.getLogger("own").info("loading")
            hold()

        Pipeline(steps=[PythonTask(function=logs, name="logs")]).execute(log_level="INFO")
    """)

    assert shape(shown.until("loading"))[-1] == "  │ logs: INFO own: loading"
    shown.go()
    assert "loading" not in shown.ended()


def test_runs_that_execute_at_once_share_the_display(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        async def one():
            print("from one")
            await ahold("go")

        async def two():
            await ahold("go2")

        async def main():
            await asyncio.gather(
                AsyncPipeline(name="one", steps=[AsyncPythonTask(function=one, name="a")])
                    .execute(run_id="first"),
                AsyncPipeline(name="two", steps=[AsyncPythonTask(function=two, name="b")])
                    .execute(run_id="second"),
            )

        asyncio.run(main())
    """)

    screen = shape(shown.until(lambda text: "  a" in text and "  b" in text))
    assert screen[0] == "from one"
    assert sorted(screen[1:]) == sorted(
        ["* one · first", "  * 0.0 s  a", "* two · second", "  * 0.0 s  b"]
        + ["  0 of 1 done · 0:00"] * 2
    )
    shown.go()
    assert shape(shown.until("✓ one")) == [
        "from one",
        "✓ one · 1 of 1 done · 0:00 · first",
        "* two · second",
        "  * 0.0 s  b",
        "  0 of 1 done · 0:00",
    ]
    shown.go("go2")
    assert shape(shown.ended())[1:] == [
        "✓ one · 1 of 1 done · 0:00 · first",
        "✓ two · 1 of 1 done · 0:00 · second",
        "rc=0",
    ]


STOPPED = {
    "sync": """
        def wait():
            hold()

        Pipeline(steps=[PythonTask(function=wait, name="wait")]).execute(run_id="stopped")
    """,
    "async": """
        async def wait():
            await asyncio.Event().wait()

        steps = [AsyncPythonTask(function=wait, name="wait")]
        asyncio.run(AsyncPipeline(steps=steps).execute(run_id="stopped"))
    """,
    "stubborn": """
        async def wait():
            try:
                await asyncio.Event().wait()
            finally:
                print("cancelled once")
                await asyncio.Event().wait()

        steps = [AsyncPythonTask(function=wait, name="wait")]
        asyncio.run(AsyncPipeline(steps=steps).execute(run_id="stopped"))
    """,
}


def test_a_second_ctrl_c_ends_at_once_and_leaves_the_terminal_sane(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal(height=50)
    shown.run(STOPPED["stubborn"])
    shown.until("0 of 1 done")
    shown.keys("C-c")
    shown.until("cancelled once")
    shown.keys("C-c")

    assert shown.ended(130).split("\n")[-1] == "rc=130"
    is_sane(shown)


@pytest.mark.parametrize("code", ["sync", "async"])
def test_ctrl_c_ends_the_display_before_the_traceback(
    terminal: Callable[..., Tmux], code: str
) -> None:
    shown = terminal(height=50)
    shown.run(STOPPED[code])
    shown.until("0 of 1 done")
    shown.keys("C-c")

    shown.ended(130)
    lines = [line for line in shape("\n".join(shown.history)) if line != "cancelled once"]
    assert [line.rstrip("*") for line in lines[:2]] == ["■ stopped", "  ■ 0.0 s  wait"]
    assert lines[2].startswith("  0 of 1 done · 0:00 · cancelled: ")
    assert lines[3] == "Traceback (most recent call last):"
    assert lines[-2] == "KeyboardInterrupt"
    is_sane(shown)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_script_that_is_ended_by_a_signal_leaves_the_terminal_sane(
    terminal: Callable[..., Tmux], number: signal.Signals
) -> None:
    shown = terminal()
    code = "open('pid', 'w').write(str(os.getpid()))\n"
    shown.run(code + STOPPED["sync"].replace("\n        ", "\n"))
    shown.until("0 of 1 done")
    os.kill(int((shown.folder / "pid").read_text()), number)

    screen = shown.ended(128 + number)
    if number == signal.SIGTERM:
        assert shape(screen) == [
            "■ stopped",
            "  ■ 0.0 s  wait",
            "  0 of 1 done · 0:00 · cancelled: the process got SIGTERM",
            "rc=143",
        ]
    is_sane(shown)


def is_sane(shown: Tmux) -> None:
    """The cursor is there, what is typed is seen, and a long line wraps."""
    assert shown.shows_cursor
    width = shown.size[0]
    shown.keys("-l", "typed" + "x" * width)
    shown.until(lambda text: "typed" + "x" * (width - 5) + "\n" + "x" * 5 in text)


@pytest.mark.parametrize("colour", [True, False])
def test_no_color_leaves_plain_text(terminal: Callable[..., Tmux], colour: bool) -> None:
    shown = terminal()
    shown.run(THREE, environ={} if colour else {"NO_COLOR": "1"})
    shown.until("transform")
    shown.go()
    shown.ended()

    assert ("\x1b[" in shown("capture-pane", "-p", "-e")) is colour


def test_stdout_that_is_a_file_gets_what_is_printed_and_nothing_else(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run(
        """
        def talk():
            print("data \\x1b[1m", "one")
            hold()
            print("50 %\\r100 %")

        Pipeline(steps=[PythonTask(function=talk, name="talk")]).execute()
        """,
        after="> out.txt",
    )

    assert shape(shown.until("data"))[-1] == r"  │ talk: data \x1b[1m one"
    shown.go()
    assert "data" not in shown.ended()
    assert (shown.folder / "out.txt").read_bytes() == b"data \x1b[1m one\n50 %\r100 %\n"


def test_a_terminal_that_changes_its_size_keeps_one_picture(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run("""
        print("before")
        name = "a step with a name that fills most of a line of eighty columns, number"
        steps = [PythonTask(function=nothing, name=f"{name} {i}") for i in range(3)]
        steps.append(PythonTask(function=hold, name="held"))
        Pipeline(steps=steps).execute()
    """)
    shown.until("3 of 4")
    for width, height in ((40, 16), (200, 50), (60, 24), (30, 24), (80, 24)):
        shown.resize(width, height)

        def fits(screen: str, width: int = width) -> bool:
            widest = max(cell_len(line) for line in screen.split("\n"))
            return "number 2" in screen if width > 100 else widest == width - 1

        screen = shown.until(fits)
        assert [line for line in screen.split("\n") if "of 4 done" in line] == [
            screen.split("\n")[-1]
        ]
        assert screen.count("held") == 1, screen
        # A terminal that wraps its lines anew may scroll some away, but none is cleared.
        assert shown.history.count("before") == 1
    shown.resize(60, 6)
    shown.until(lambda screen: len(screen.split("\n")) == 4 and "… 3 earlier" in screen)
    shown.go()
    assert "4 of 4 done" in shown.ended()


@pytest.mark.parametrize(
    "environ", [{"RUNNABLE_PROGRESS": "0"}, {"TERM": "dumb"}], ids=["turned-off", "dumb"]
)
def test_no_progress_is_shown_where_it_is_turned_off_or_cannot_be(
    terminal: Callable[..., Tmux], environ: dict[str, str]
) -> None:
    shown = terminal()
    shown.run(THREE + "    print('runnable.terminal.display' in sys.modules)\n", environ=environ)
    shown.go()

    assert shown.ended() == "False\nrc=0"


def test_a_run_inside_a_step_and_a_streamed_run_show_nothing(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run("""
        def inner() -> str:
            hold()
            return Pipeline(name="inner", steps=[Stub(name="x")]).execute().status

        print([event.type for event in Pipeline(steps=[Stub(name="s")]).execute_stream()][-1])
        Pipeline(name="outer", steps=[PythonTask(function=inner, name="i")]).execute()
    """)
    assert shape(shown.until("0 of 1"))[:2] == ["pipeline_completed", "* outer · RUN"]
    shown.go()
    assert "inner" not in shown.ended()


def test_a_debugger_in_a_step_has_the_terminal_for_itself(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        def debugged():
            x = 41
            breakpoint()
            x += 1
            print("x is", x)

        steps = [
            PythonTask(function=debugged, name="debugged"),
            PythonTask(function=hold, name="b"),
        ]
        Pipeline(steps=steps).execute()
    """)
    shown.until("(Pdb)")
    for command in ("p x * 100", "n", "p x * 100", "c"):
        shown.until(lambda text: text.endswith("(Pdb)"))
        shown.keys(command, "Enter")
    screen = shape(shown.until("1 of 2 done"))
    at = screen.index("(Pdb) c")
    assert screen[at + 1 :] == [
        "x is 42",
        "* RUN",
        "  ✓ 0.0 s  debugged",
        "  * 0.0 s  b",
        "  1 of 2 done · 0:00",
    ]
    assert {"4100", "4200"} <= set(screen[:at])
    shown.go()
    shown.ended()


def test_a_password_is_asked_for_undisturbed(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        import getpass

        def ask():
            open("told", "w").write(getpass.getpass("your password? "))
            hold()

        Pipeline(steps=[PythonTask(function=ask, name="ask")]).execute()
    """)
    shown.until("your password?")
    shown.keys("secret", "Enter")
    screen = shown.until(lambda text: "0 of 1 done" in text.partition("your password?")[2])
    assert screen.count("your password?") == 1
    assert "secret" not in screen
    shown.go()
    shown.ended()
    assert (shown.folder / "told").read_text() == "secret"


def test_what_the_script_prints_meanwhile_stands_above_as_it_is(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run("""
        async def main():
            step = AsyncPythonTask(function=ahold, name="a")
            running = asyncio.create_task(AsyncPipeline(steps=[step]).execute())
            await asyncio.to_thread(hold, "go2")
            print("\x1b[35mviolet\x1b[0m", "part", end=" ", flush=True)
            sys.stdout.buffer.write("ünd ".encode())
            print("whole")
            logging.error("logged")
            await running
            print("after")

        asyncio.run(main())
    """)
    shown.until("0 of 1 done")
    shown.go("go2")
    assert shape(shown.until("logged")) == [
        "violet part ünd whole",
        "ERROR:root:logged",
        "* RUN",
        "  * 0.0 s  a",
        "  0 of 1 done · 0:00",
    ]
    assert b"\x1b[35mviolet\x1b[0m part" in shown.raw.read_bytes()
    shown.go()
    assert shape(shown.ended())[-3:] == ["  1 of 1 done · 0:00", "after", "rc=0"]


def test_a_child_process_on_the_terminal_is_not_overwritten(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run("""
        import subprocess

        def child():
            hold()
            subprocess.run(["sh", "-c", "echo first; cat go2; echo second"])
            hold()

        Pipeline(steps=[PythonTask(function=child, name="child")]).execute()
    """)
    shown.until("0 of 1 done")
    shown.go()
    assert shown.until("first") == "first"
    shown.go("go2")
    assert shape(shown.until("0 of 1 done"))[:3] == ["first", "second", "* RUN"]
    shown.go()
    assert shape(shown.ended())[:3] == ["first", "second", "✓ RUN"]


def test_a_script_in_the_background_leaves_the_terminal_to_the_shell(
    terminal: Callable[..., Tmux],
) -> None:
    shown = terminal()
    shown.run(
        """
        os.setpgid(0, 0)

        def talk():
            print("hello")

        Pipeline(steps=[PythonTask(function=talk, name="talk")]).execute()
        """
    )
    assert shown.ended() == "hello\nrc=0"


def test_a_child_forked_by_a_step_prints_and_ends(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        import multiprocessing

        def fork():
            context = multiprocessing.get_context("fork")
            for i in range(20):
                child = context.Process(target=print, args=(f"child {i}",))
                child.start()
                child.join()
                assert child.exitcode == 0

        Pipeline(steps=[PythonTask(function=fork, name="fork")]).execute()
    """)
    screen = shown.ended()
    assert "1 of 1 done" in screen


def test_a_terminal_that_goes_away_does_not_fail_the_run(terminal: Callable[..., Tmux]) -> None:
    shown = terminal()
    shown.run("""
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        def survive():
            hold()
            print("nobody reads this")

        Pipeline(steps=[PythonTask(function=survive, name="survive")]).execute()
        os.rename("made", "survived")
    """)
    (shown.folder / "made").touch()
    shown.until("0 of 1 done")
    shown.kill()
    shown.go()
    deadline = time.monotonic() + PATIENCE
    while not (shown.folder / "survived").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
