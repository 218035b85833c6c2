"""`runnable retry`: what a run is gone on with, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runnable.cli.exit_status import status_of
from runnable.cli.retrying import target_of
from runnable.cli.running import Shape, run_target
from runnable.cli.target import Target, load
from runnable.events import parse_event
from runnable.exceptions import ExecutionFailedError, OriginError, RunnableError, TargetError
from runnable.extensions.run_log_store.sqlite import SQLiteRunLogStore
from runnable.origin import Origin
from runnable.records import Record
from runnable.sdk.calls import RunOptions
from runnable.store import Append, Owner, RunRecord
from tests.cli.called import call
from tests.cli.commands import (
    PATIENCE,
    environment,
    module,
    own_modules,
    run_log,
    runnable,
    started,
    store_in,
)

SHOP = """
    def count() -> int:
        return 3

    def sell(x: int) -> int:
        if not os.path.exists("open"):
            raise RuntimeError("the shop is closed")
        return 2 * x

    pipeline = Pipeline(steps=[
        PythonTask(function=count, name="count", returns=["x"]),
        # With a timeout it runs on a thread, where it may look at files.
        PythonTask(function=sell, name="sell", returns=["y"], timeout=60),
    ])

    if __name__ == "__main__":
        pipeline.execute(run_id="one")
"""


@pytest.fixture
def failed(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the command line has begun the run "one", which failed."""
    module(own_folder, SHOP)
    options = RunOptions(run_id="one", tag="docs")
    with own_modules(monkeypatch):
        with pytest.raises(ExecutionFailedError):
            run_target(load("shop:pipeline"), None, options, Shape())
        yield own_folder


@pytest.fixture
def of_script(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a script has begun the run "one", which failed."""
    module(own_folder, SHOP)
    origin = Origin("script", "shop.py")
    with own_modules(monkeypatch):
        with pytest.raises(ExecutionFailedError):
            run_target(
                Target(load("shop:pipeline").executable, origin),
                None,
                RunOptions(run_id="one"),
                Shape(),
            )
        yield own_folder


def retried(run_id: str = "one", named: str = "") -> None:
    """Go on with a run, in this process."""
    target = load(target_of(run_id, "", named=named))
    run_target(target, None, RunOptions(resume=run_id), Shape())


def opened(folder: Path) -> None:
    """Mend what failed."""
    (folder / "open").touch()


def test_a_run_goes_on_with_the_module_that_it_was_begun_with(failed: Path) -> None:
    opened(failed)

    done = runnable(failed, "retry", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert "Run one: success in " in done.stdout
    log = run_log(failed, "one")
    assert (log.tag, log.parameters) == ("docs", {"x": 3, "y": 6})
    assert [a.attempt for a in log.steps["count"].attempts] == [1]


@pytest.mark.parametrize("shape", ["--stream", "--json"])
def test_it_writes_what_execute_writes(failed: Path, shape: str) -> None:
    opened(failed)

    done = runnable(failed, "retry", "one", shape)

    assert (done.returncode, done.stderr) == (0, "")
    if shape == "--json":
        assert json.loads(done.stdout)["status"] == "success"
    else:
        kinds = [parse_event(line).type for line in done.stdout.splitlines()]
        assert (kinds[0], kinds[-1]) == ("pipeline_started", "pipeline_completed")
        assert "task_skipped" in kinds


def test_a_retry_that_fails_again_can_be_retried(failed: Path) -> None:
    with pytest.raises(ExecutionFailedError):
        retried()
    opened(failed)
    retried()

    assert [a.status for a in run_log(failed, "one").steps["sell"].attempts] == [
        *("fail", "fail", "success"),
    ]


def test_a_run_that_ended_well_has_nothing_to_retry(failed: Path) -> None:
    opened(failed)
    retried()

    with pytest.raises(RunnableError, match="Run 'one' ended with success") as raised:
        retried()

    assert status_of(raised.value) == 1


@pytest.mark.parametrize("run_id", ["nobody", "../one", ""])
def test_a_run_that_is_not_there_is_one_sentence(failed: Path, run_id: str) -> None:
    with pytest.raises(RunnableError) as raised:
        retried(run_id)

    assert status_of(raised.value) == 1
    assert len(str(raised.value).splitlines()) == 1


def test_a_module_that_is_gone_is_a_clear_error(failed: Path) -> None:
    (failed / "shop.py").unlink()
    del sys.modules["shop"]

    with pytest.raises(TargetError, match="cannot be loaded: there is no module 'shop'"):
        retried()


def test_a_changed_graph_is_refused_with_the_difference_unless_forced(failed: Path) -> None:
    module(failed, SHOP.replace('name="sell"', 'name="vend"'))
    opened(failed)

    refused = runnable(failed, "retry", "one")
    forced = runnable(failed, "retry", "one", "--force")

    assert (refused.returncode, refused.stdout) == (3, "")
    assert "step 'sell'" in refused.stderr
    assert "step 'vend'" in refused.stderr
    assert refused.stderr.rstrip().endswith("accept the change with --force.")
    assert forced.returncode == 0, forced.stderr


def test_a_run_that_lives_is_refused_and_its_owner_named(own_folder: Path) -> None:
    module(
        own_folder,
        """
        async def wait():
            say("ready")
            await asyncio.Event().wait()

        pipeline = AsyncPipeline(steps=[AsyncPythonTask(function=wait, name="wait")])
        """,
    )
    with started(own_folder, "execute", "shop:pipeline", "--run-id", "one") as process:
        done = runnable(own_folder, "retry", "one")
        process.terminate()
        process.communicate(timeout=PATIENCE)

    assert (done.returncode, done.stdout) == (3, "")
    assert "Run 'one' is held by " in done.stderr
    assert str(process.pid) in done.stderr


def test_a_run_whose_process_was_killed_goes_on(own_folder: Path) -> None:
    module(
        own_folder,
        """
        def wait() -> int:
            if not os.path.exists("open"):
                say("ready")
                time.sleep(60)
            return 1

        pipeline = Pipeline(steps=[PythonTask(function=wait, name="wait", returns=["x"])])
        """,
    )
    with started(own_folder, "execute", "shop:pipeline", "--run-id", "one") as process:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    opened(own_folder)

    done = runnable(own_folder, "retry", "one")

    assert done.returncode == 0, done.stderr
    assert run_log(own_folder, "one").parameters == {"x": 1}


@pytest.mark.parametrize(
    ("started_by", "typed"),
    [
        (["my shop.py", "--password=hunter2"], "python 'my shop.py' …"),
        (["-m", "shop"], "python -m shop"),
        (["-c", "import shop; shop.pipeline.execute(run_id='one')"], ""),
    ],
)
def test_of_a_scripts_run_it_says_what_to_type(
    own_folder: Path, started_by: list[str], typed: str
) -> None:
    module(own_folder, SHOP)
    module(own_folder, SHOP, "my shop")
    subprocess.run(
        [sys.executable, *started_by],
        cwd=own_folder,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    done = runnable(own_folder, "retry", "one")

    assert (done.returncode, done.stdout) == (1, "")
    if typed:
        assert done.stderr.rstrip().endswith(f"Type: RUNNABLE_RETRY_RUN_ID=one {typed}")
    else:
        assert "Type: runnable retry one TARGET" in done.stderr
    assert "hunter2" not in (own_folder / ".runnable" / "runs.db").read_bytes().decode("latin-1")


def test_what_it_says_to_type_goes_on_with_the_run(own_folder: Path) -> None:
    module(own_folder, SHOP)
    script = [sys.executable, "shop.py"]
    subprocess.run(script, cwd=own_folder, env=environment(), capture_output=True, check=False)
    opened(own_folder)

    told = runnable(own_folder, "retry", "one").stderr.rpartition("Type: ")[2].strip()
    own = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    subprocess.run(["sh", "-c", told], cwd=own_folder, env=environment(PATH=own), check=True)

    assert run_log(own_folder, "one").status == "success"


def test_a_scripts_run_goes_on_with_a_pipeline_that_is_named_and_then_without(
    of_script: Path,
) -> None:
    with pytest.raises(OriginError, match="was begun by a script"):
        retried()
    with pytest.raises(ExecutionFailedError):
        retried(named="shop:pipeline")

    opened(of_script)
    retried()

    assert run_log(of_script, "one").status == "success"


def test_a_script_that_resumes_a_run_of_the_command_line_does_not_hide_its_module(
    failed: Path,
) -> None:
    script = Target(load("shop:pipeline").executable, Origin("script", "shop.py"))
    with pytest.raises(ExecutionFailedError):
        run_target(script, None, RunOptions(resume="one"), Shape())
    assert run_log(failed, "one").epoch == 2

    opened(failed)
    retried()

    assert run_log(failed, "one").status == "success"


def written(
    folder: Path, run_id: str, values: dict[str, Any], event: dict[str, object] | None = None
) -> SQLiteRunLogStore:
    """A run as somebody else may write it into a store that is shared: it has failed.

    Args:
        folder: Where the store is, and the run that it is a copy of.
        run_id: The run.
        values: What its first record holds besides.
        event: What the event of its first step holds besides.
    """
    store = store_in(folder)
    copied = [*store.read("one")]
    first, *rest = [
        record._replace(event=record.event.replace(b'"one"', b'"%b"' % run_id.encode()))
        for record in copied
    ]
    told = {**json.loads(first.values), **values}
    if event:
        rest[0] = rest[0]._replace(
            event=json.dumps({**json.loads(rest[0].event), **event}).encode()
        )
    lease = store.create_run(
        RunRecord(run_id, "", "", 0.0, Owner.current()),
        first._replace(values=json.dumps(told).encode()),
    )
    store.append([Append(lease, 1, rest, True)])
    return store


EVIL = """
    open("imported", "w").close()
"""


@pytest.mark.parametrize("mac", ["", "0" * 64, "of the other run", 7])
def test_a_record_that_nobody_vouches_for_is_not_followed(failed: Path, mac: object) -> None:
    module(failed, EVIL, "evil")
    first: Record = next(iter(store_in(failed).read("one")))
    of_one = json.loads(first.values)["origin"]["mac"]
    mac = of_one if mac == "of the other run" else mac
    origin = {"kind": "module", "target": "evil:pipeline", "mac": mac}
    written(failed, "two", {"origin": origin})

    with pytest.raises(OriginError, match="nobody vouches for it") as raised:
        retried("two")

    assert status_of(raised.value) == 3
    assert raised.value.command == "runnable retry two evil:pipeline"
    assert not (failed / "imported").exists()


def test_a_record_copied_to_another_run_is_not_followed(failed: Path) -> None:
    written(failed, "two", {})

    with pytest.raises(OriginError, match="nobody vouches for it"):
        retried("two")


def test_without_the_key_the_target_has_to_be_named(failed: Path) -> None:
    (failed / ".runnable" / "key").unlink()
    opened(failed)

    with pytest.raises(OriginError, match="nobody vouches for it"):
        retried()
    retried(named="shop:pipeline")

    assert run_log(failed, "one").status == "success"


def test_a_key_that_cannot_be_used_does_not_keep_a_run_from_beginning(own_folder: Path) -> None:
    module(own_folder, SHOP)
    opened(own_folder)

    done = runnable(
        own_folder, "execute", "shop:pipeline", "--run-id", "one", RUNNABLE_KEY="too short"
    )

    assert done.returncode == 0, done.stderr
    assert run_log(own_folder, "one").origin == Origin("module", "shop:pipeline")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        7,
        [],
        {},
        {"kind": "script"},
        {"kind": "later", "target": "x"},
        {"kind": "module", "target": 7},
    ],
)
def test_an_origin_that_says_nothing_is_one_sentence(failed: Path, origin: object) -> None:
    written(failed, "two", {"origin": origin})

    with pytest.raises(OriginError, match="Type: runnable retry two TARGET") as raised:
        retried("two")

    assert status_of(raised.value) == 1


def test_a_command_made_of_a_record_is_quoted(failed: Path) -> None:
    origin = {"kind": "script", "target": "x.py; touch pwned \x1b[31m"}
    written(failed, "two", {"origin": origin})

    with pytest.raises(OriginError) as raised:
        retried("two")

    assert str(raised.value).endswith("python 'x.py; touch pwned \\x1b[31m'")


@pytest.mark.parametrize(
    ("kind", "target", "typed"),
    [
        ("script", "-cimport os", "python './-cimport os'"),
        ("module", "--config=evil.yaml", "runnable retry two ./--config=evil.yaml"),
    ],
)
def test_a_command_made_of_a_record_holds_no_option_of_the_records_own(
    failed: Path, kind: str, target: str, typed: str
) -> None:
    written(failed, "two", {"origin": {"kind": kind, "target": target}})

    with pytest.raises(OriginError) as raised:
        retried("two")

    assert raised.value.command.endswith(typed)


def test_the_pipeline_is_the_one_that_the_folder_has_now(failed: Path) -> None:
    module(failed, SHOP.replace("return 2 * x", "return 5 * x"))
    opened(failed)

    done = runnable(failed, "retry", "one")

    assert done.returncode == 0
    assert "the function of step 'sell' has changed" in done.stderr
    assert run_log(failed, "one").parameters["y"] == 15


@pytest.mark.parametrize(
    "event",
    [{"path": "a." * 5_000 + "a"}, {"path": 7}, {"timestamp": "yesterday"}],
    ids=["deep", "number", "time"],
)
def test_a_record_that_keeps_to_no_form_ends_each_command_in_a_sentence(
    failed: Path, event: dict[str, object]
) -> None:
    written(failed, "two", {}, event)

    for command in ("timeline two", "runs show two", "timeline two --json"):
        done = call(*command.split())
        assert done.status == 1
        assert "of their form" in done.err or "is damaged" in done.err
        assert len(done.err.splitlines()) == 1
    looked_at = call("doctor", "two")
    assert looked_at.status == 1
    assert "problem: The record" in looked_at.out
