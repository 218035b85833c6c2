"""A signal while a command runs a pipeline: the first cancels the run, the second ends at once."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from runnable.events import parse_event
from tests.cli.commands import PATIENCE, module, run_log, started

INTERRUPTED = (-signal.SIGINT, 128 + signal.SIGINT)

WAITING = {
    "sync": """
        def wait():
            try:
                say("ready")
                time.sleep(60)
            finally:
                say("clean")

        pipeline = Pipeline(steps=[PythonTask(function=wait, name="wait")])
    """,
    "async": """
        async def wait():
            try:
                say("ready")
                await asyncio.Event().wait()
            finally:
                say("clean")

        pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
    """,
}


@pytest.mark.parametrize("shape", [[], ["--json"], ["--stream"]])
@pytest.mark.parametrize("kind", WAITING)
@pytest.mark.parametrize(
    ("number", "statuses"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, (143,))]
)
def test_a_signal_cancels_the_run_and_ends_the_command_with_its_status(
    own_folder: Path, kind: str, shape: list[str], number: signal.Signals, statuses: tuple[int, ...]
) -> None:
    module(own_folder, WAITING[kind])
    arguments = ["execute", "shop:pipeline", "--run-id", "stopped", *shape]
    with started(own_folder, *arguments) as process:
        process.send_signal(number)
        out, error = process.communicate(timeout=PATIENCE)

    assert process.returncode in statuses
    assert error.splitlines() == [
        "clean",
        "Run 'stopped' was cancelled. Resume with: runnable retry stopped",
    ]
    assert run_log(own_folder, "stopped").status == "cancelled"
    if shape == ["--json"]:
        assert json.loads(out)["status"] == "cancelled"
    elif shape:
        assert parse_event(out.splitlines()[-1]).type == "pipeline_cancelled"
    else:
        assert out == ""


STUBBORN = """
    async def stubborn():
        try:
            say("ready")
            await asyncio.Event().wait()
        finally:
            say("cancelled once")
            await asyncio.Event().wait()

    pipeline = Pipeline(steps=[PythonTask(function=stubborn, name="stubborn")])
"""


@pytest.mark.parametrize("shape", [[], ["--stream"]])
@pytest.mark.parametrize(
    ("number", "statuses"),
    [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, (-signal.SIGTERM, 143))],
)
def test_the_second_signal_ends_the_command_at_once(
    own_folder: Path, shape: list[str], number: signal.Signals, statuses: tuple[int, ...]
) -> None:
    module(own_folder, STUBBORN)
    with started(own_folder, "execute", "shop:pipeline", "--run-id", "one", *shape) as process:
        assert process.stderr is not None
        process.send_signal(number)
        assert process.stderr.readline() == "cancelled once\n"
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)

    assert process.returncode in statuses
    assert run_log(own_folder, "one").status in ("interrupted", "cancelled")
