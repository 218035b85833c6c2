"""A branch for each item: what it iterates on, what it gathers, and where it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runnable import current, follow
from runnable.events import TaskLogEvent
from runnable.exceptions import (
    ExecutionFailedError,
    ItemsError,
    LimitError,
    MissingParameterError,
    PickleError,
    UnencodableError,
)
from runnable.sdk import Conditional, Map, metric, pickled
from tests.composites import (
    DEADLINE,
    events_of,
    failure,
    group_in,
    group_of,
    in_time,
    one,
    parallel,
    pipe,
    sole_error_of,
    step,
    sync_pipe,
    values_of,
)
from tests.tasks import afar


def on_items(branch: Any, **settings: Any) -> Map:
    return Map(name="m", branch=branch, iterate_on="items", iterate_as="item", **settings)


def same(item: Any) -> Any:
    return item


async def result_of(branch: Any, items: object, name: str = "r", **settings: Any) -> Any:
    run = await pipe(on_items(branch, **settings)).execute({"items": items})
    return run.parameters[name]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([3, 1, 2], [3, 1, 2]),
        ((3, 1), [3, 1]),
        ([], []),
        ([1, 1, 1], [1, 1, 1]),
        ([[1], {"a": [2]}, None, "x", 1.5, True], [[1], {"a": [2]}, None, "x", 1.5, True]),
        ({"a": 1, "b": [2]}, [["a", 1], ["b", [2]]]),
        ({}, []),
        (["x" * 100_000] * 3, ["x" * 100_000] * 3),
    ],
)
async def test_results_are_in_the_order_of_the_items(
    each_store: str, items: object, expected: object
):
    assert await result_of(one(same, "r"), items) == expected


async def test_the_order_is_that_of_the_items_and_not_of_their_ends():
    ended = [asyncio.Event() for _ in range(5)]

    async def work(item: int) -> int:
        if item < 4:
            await in_time(ended[item + 1].wait())
        ended[item].set()
        return item

    assert await result_of(one(work, "r"), [0, 1, 2, 3, 4]) == [0, 1, 2, 3, 4]


async def test_the_items_come_from_an_earlier_step():
    def make() -> dict[str, int]:
        return {"a": 1, "b": 2}

    def join(item: tuple[str, int]) -> str:
        return f"{item[0]}{item[1]}"

    run = await pipe(step(make, "make", "items"), on_items(one(join, "r"))).execute()
    assert run.parameters["r"] == ["a1", "b2"]


async def test_pickled_items_are_objects_and_pickled_results_are_one_list():
    def make() -> tuple[complex, ...]:
        return (1j, 2j)

    def double(item: complex) -> complex:
        return 2 * item

    def read(r: Any = ()) -> list[str]:
        return [str(number) for number in r]

    run = await pipe(
        step(make, "make", pickled("items")),
        on_items(one(double, pickled("r"))),
        step(read, "read", "text"),
    ).execute()
    assert run.parameters["text"] == ["2j", "4j"]
    assert run.load("r") == [2j, 4j]
    assert run.parameters["r"] == "<builtins.list>"


async def test_the_pairs_of_a_pickled_dict_may_have_any_keys():
    def make() -> dict[Any, Any]:
        return {(1, 2): {3}, None: "x"}

    def tell(item: Any) -> str:
        return repr(item)

    run = await pipe(step(make, "make", pickled("items")), on_items(one(tell, "r"))).execute()
    assert run.parameters["r"] == ["[(1, 2), {3}]", "[None, 'x']"]


class Once:
    """Can be pickled, and what comes of that cannot."""

    def __reduce__(self) -> Any:
        return threading.Lock, ()


@pytest.mark.parametrize("limit", [None, 1])
async def test_an_item_that_cannot_be_pickled_again_fails_for_itself(limit: int | None):
    done: list[int] = []

    def make() -> list[Any]:
        return [1, Once(), 3, 4]

    def work(item: int) -> None:
        done.append(item)

    pipeline = pipe(
        step(make, "make", pickled("items")), on_items(one(work), max_concurrency=limit)
    )
    error = await in_time(failure(pipeline))
    assert error.path == "m.1"
    (found,) = group_in(error).exceptions
    assert isinstance(found, PickleError)
    assert done == [1, 3, 4]


async def test_an_item_that_did_not_set_a_name_has_none_there():
    def odd(item: int) -> bool:
        return item % 2 == 1

    def name(item: int) -> str:
        return f"n{item}"

    route = Conditional(
        name="c", parameter="odd", branches={"true": one(name, "r")}, default=one(same)
    )
    assert await result_of(pipe(step(odd, "odd", "odd"), route), [1, 2, 3]) == ["n1", None, "n3"]


async def test_what_an_on_failure_branch_sets_is_gathered_too():
    def work(item: int) -> int:
        if item == 1:
            raise LookupError("no")
        return item

    def mend(item: int) -> int:
        return -item

    branch = pipe(step(work, "s", "r", on_failure=one(mend, "mended")))
    run = await pipe(on_items(branch)).execute({"items": [0, 1, 2]})
    assert run.parameters["r"] == [0, None, 2]
    assert run.parameters["mended"] == [None, -1, None]


async def test_each_item_has_a_value_of_its_own_that_nobody_else_sees_changed():
    def spoil(item: dict[str, list[int]], items: list[Any], shared: list[int]) -> int:
        item["list"].append(9)
        items.clear()
        shared.append(9)
        return len(shared)

    def read(item: dict[str, list[int]], items: list[Any], shared: list[int]) -> list[Any]:
        return [item, len(items), shared]

    branch = pipe(step(spoil, "spoil", "n"), step(read, "read", "r"))
    given = {"items": [{"list": [1]}, {"list": [1]}], "shared": [0]}
    run = await pipe(on_items(branch, max_concurrency=1)).execute(given)
    assert run.parameters["r"] == [[{"list": [1]}, 2, [0]]] * 2
    assert run.parameters["n"] == [2, 2]
    assert run.parameters["items"] == given["items"]


async def test_an_iteration_variable_wins_over_a_parameter_of_its_name():
    def write(item: int) -> int:
        return item + 100

    def read(item: int) -> int:
        return item

    branch = pipe(step(write, "w", "item"), step(read, "read", "r"))
    run = await pipe(on_items(branch)).execute({"items": [1, 2], "item": 7})
    assert run.parameters["r"] == [1, 2]
    # After the map the name is a parameter again, and holds what the branches have set.
    assert run.parameters["item"] == [101, 102]


async def test_a_nested_map_sees_the_variables_of_all_levels():
    def tell(row: list[int], cell: int, word: str) -> str:
        return f"{word}{len(row)}{cell}"

    cells = Map(name="cells", branch=one(tell, "r"), iterate_on="row2", iterate_as="cell")
    rows = Map(
        name="rows",
        branch=pipe(step(lambda row: row, "copy", "row2"), cells),
        iterate_on="rows",
        iterate_as="row",
    )
    run = await pipe(rows).execute({"rows": [[1, 2], [], [3]], "word": "w"})
    assert run.parameters["r"] == [["w21", "w22"], [], ["w13"]]


async def test_an_inner_variable_of_the_same_name_wins():
    inner = Map(name="inner", branch=one(same, "r"), iterate_on="words", iterate_as="item")
    run = await pipe(on_items(pipe(inner))).execute({"items": [1, 2], "words": ["a", "b"]})
    assert run.parameters["r"] == [["a", "b"], ["a", "b"]]


async def test_metrics_of_items_are_one_metric(each_store: str):
    def measure(item: int) -> float:
        return item / 2

    run = await pipe(on_items(one(measure, metric("loss")))).execute({"items": [1, 2]})
    assert run.metrics == {"loss": [0.5, 1.0]}
    (attempt,) = run.steps["m"].attempts
    assert [*attempt.user_defined_metrics] == ["loss"]


async def test_a_reduced_metric_is_a_metric_after_a_resume_too(each_store: str):
    broken = [True]

    def measure(item: int) -> int:
        return item

    def last() -> None:
        if broken:
            raise LookupError("not yet")

    pipeline = pipe(on_items(one(measure, metric("loss")), reducer="max"), step(last, "last"))
    error = await failure(pipeline, {"items": [1, 5, 2]})
    broken.clear()
    run = await pipeline.execute(resume=error.run_id)
    assert run.metrics == {"loss": 5}


@pytest.mark.parametrize(
    ("value", "found"),
    [(5, "int"), ("abc", "str"), (None, "NoneType"), (True, "bool"), (1.5, "float")],
)
async def test_what_has_no_items_is_named(value: object, found: str):
    error = await sole_error_of(pipe(on_items(one(same))), {"items": value})
    assert isinstance(error, ItemsError)
    assert str(error) == (
        f"Step 'm' iterates on 'items', which holds one {found}. Return a list, a tuple or a dict "
        f"under that name."
    )


async def test_a_pickled_set_has_no_order_and_so_no_items():
    def make() -> set[int]:
        return {1}

    error = await sole_error_of(pipe(step(make, "make", pickled("items")), on_items(one(same))))
    assert "holds one set" in str(error)


async def test_a_missing_parameter_is_named_with_those_there_are():
    def flip() -> bool:
        return False

    def make() -> list[int]:
        return [1]

    sometimes = Conditional(
        name="c", parameter="flag", branches={"true": one(make, "items")}, default=one(flip)
    )
    pipeline = pipe(step(flip, "flip", "flag"), sometimes, on_items(one(same)))
    with pytest.raises((MissingParameterError, ExecutionFailedError)) as raised:
        await pipeline.execute()
    error = raised.value.__cause__ or raised.value
    assert isinstance(error, MissingParameterError)
    assert "Step 'm' needs 'items'" in str(error)


async def test_a_list_of_results_over_64_mib_is_one_clear_error():
    text = "x" * (8 * 1024 * 1024)

    def work() -> str:
        return text

    error = await sole_error_of(pipe(on_items(one(work, "r"))), {"items": [*range(9)]})
    assert isinstance(error, LimitError)
    assert str(error).startswith(
        "The JSON text of the list of 'r' is 75,497,500 bytes long, more than the 67,108,864"
    )


async def test_results_nested_too_deep_for_their_list_are_one_clear_error():
    deep: Any = 1
    for _ in range(100):
        deep = [deep]

    def work() -> Any:
        return deep

    error = await sole_error_of(pipe(on_items(one(work, "r"))), {"items": [1]})
    assert isinstance(error, UnencodableError)
    assert "the list of 'r'" in str(error)


async def test_a_large_list_goes_to_a_blob_and_is_whole_in_the_run_log(each_store: str):
    def work(item: int) -> str:
        return str(item) * 100_000

    run = await pipe(on_items(one(work, "r"))).execute({"items": [1, 2, 3, 4]})
    assert run.parameters["r"] == [str(number) * 100_000 for number in (1, 2, 3, 4)]
    (attempt,) = run.steps["m"].attempts
    assert attempt.output_parameters["r"].get_value() == run.parameters["r"]


async def test_a_reducer_is_called_for_each_name_with_its_list():
    def work(item: int) -> tuple[int, str]:
        return item, str(item)

    def reduce(values: list[Any]) -> Any:
        return values[::-1]

    run = await pipe(on_items(one(work, "a", "b"), reducer=reduce)).execute({"items": [1, 2]})
    assert (run.parameters["a"], run.parameters["b"]) == ([2, 1], ["2", "1"])


async def test_the_name_of_a_builtin_is_a_reducer():
    assert await result_of(one(same, "r"), [3, 9, 4], reducer="max") == 9
    assert await result_of(one(same, "r"), [], reducer="sum") == 0


async def test_a_reducer_that_raises_fails_the_map_and_not_a_branch():
    def reduce(values: list[int]) -> int:
        raise LookupError("cannot be reduced")

    error = await failure(pipe(on_items(one(same, "r"), reducer=reduce)), {"items": [1]})
    assert error.path == "m"
    assert isinstance(error.__cause__, LookupError)
    assert str(error).startswith("Step 'm' failed: LookupError: cannot be reduced. Resume with ")


async def test_a_reducer_of_nothing_that_needs_something_fails_the_map():
    error = await failure(pipe(on_items(one(same, "r"), reducer="max")), {"items": []})
    assert (error.path, type(error.__cause__)) == ("m", ValueError)


@pytest.mark.parametrize("make", [pipe, sync_pipe])
async def test_a_reducer_that_exits_fails_the_map(make: Any):
    def reduce(values: list[int]) -> int:
        raise SystemExit(3)

    pipeline = make(on_items(one(same, "r"), reducer=reduce))
    if make is sync_pipe:
        with pytest.raises(ExecutionFailedError) as raised:
            await asyncio.to_thread(pipeline.execute, {"items": [1]})
        error = raised.value
    else:
        error = await failure(pipeline, {"items": [1]})
    assert (error.path, type(error.__cause__)) == ("m", SystemExit)


async def test_what_a_reducer_gives_must_be_json():
    def reduce(values: list[int]) -> Any:
        return {1, 2}

    error = await sole_error_of(pipe(on_items(one(same, "r"), reducer=reduce)), {"items": [1]})
    assert isinstance(error, UnencodableError)
    assert str(error).startswith("reduced['r'] is of type set, which JSON cannot hold.")


async def test_a_reducer_of_pickled_values_gives_a_pickled_one():
    def make(item: int) -> complex:
        return complex(item)

    def reduce(values: list[complex]) -> complex:
        return sum(values)

    run = await pipe(on_items(one(make, pickled("r")), reducer=reduce)).execute({"items": [1, 2]})
    assert run.load("r") == 3 + 0j


async def test_what_a_reducer_prints_is_in_the_log_of_the_map():
    def reduce(values: list[int]) -> int:
        print("reducing", len(values), current().path)
        return 0

    pipeline = pipe(on_items(one(same, "r"), reducer=reduce))
    logs = [
        event
        for event in await events_of(pipeline, {"items": [1, 2]})
        if isinstance(event, TaskLogEvent)
    ]
    assert [(log.path, log.task_name, log.text) for log in logs] == [("m", "m", "reducing 2 m\n")]


async def test_nothing_that_a_left_reducer_prints_comes_after_the_end():
    began, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def reduce(values: list[int]) -> int:
        print("early")
        began.set()
        go_on.wait(DEADLINE)
        print("late")
        over.set()
        return 0

    async def wait() -> None:
        await asyncio.Event().wait()

    other = asyncio.create_task(pipe(step(wait, "wait")).execute())
    pipeline = pipe(on_items(one(same, "r"), reducer=reduce))
    running = asyncio.create_task(pipeline.execute({"items": [1]}, run_id="left-reducer"))
    assert await asyncio.to_thread(began.wait, DEADLINE)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(running)
    go_on.set()
    assert await asyncio.to_thread(over.wait, DEADLINE)
    told = [event.type async for event in follow("left-reducer")]
    assert told[-2:] == ["task_log", "pipeline_cancelled"]
    assert told.count("task_log") == 1
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await in_time(other)


async def test_under_an_async_pipeline_a_users_reducer_runs_on_a_worker_thread():
    threads: list[int] = []

    def reduce(values: list[int]) -> int:
        threads.append(threading.get_ident())
        return 0

    await result_of(one(same, "r"), [1], reducer=reduce)
    assert threads
    assert threads[0] != threading.get_ident()


def test_with_one_at_a_time_functions_run_on_the_callers_own_thread():
    threads: list[int] = []

    def work(item: int) -> int:
        threads.append(threading.get_ident())
        return item

    def reduce(values: list[int]) -> int:
        threads.append(threading.get_ident())
        return 0

    mapped = on_items(one(work, "r"), max_concurrency=1, reducer=reduce)
    sync_pipe(mapped).execute({"items": [1, 2, 3]})
    assert threads == [threading.get_ident()] * 4


def test_inside_a_concurrent_branch_one_at_a_time_is_no_reason_to_run_inline():
    threads: list[int] = []

    def work(item: int) -> None:
        threads.append(threading.get_ident())

    mapped = on_items(one(work), max_concurrency=1)
    sync_pipe(parallel(a=pipe(mapped), b=pipe(mapped))).execute({"items": [1, 2]})
    assert len(threads) == 4
    assert threading.get_ident() not in threads


def test_ctrl_c_in_an_inline_item_cancels_the_run_which_can_be_resumed(
    own_folder: Path, configure: Callable[[str], Path]
):
    configure("run-log-store:\n  type: sqlite\n")
    script = own_folder / "interrupted.py"
    script.write_text(
        dedent("""
        import os, signal, sys, threading
        from runnable import Conditional, Loop, Map, Pipeline, PythonTask

        def work(item: int) -> int:
            if item == 1 and "resume" not in sys.argv:
                print("interrupting", threading.current_thread() is threading.main_thread())
                os.kill(os.getpid(), signal.SIGINT)
                while True:
                    signal.pause()
            return item

        def over() -> bool:
            return True

        each = Map(name="m", iterate_on="items", iterate_as="item", max_concurrency=1,
                   branch=PythonTask(function=work, name="s", returns=["r"]).as_pipeline())
        ends = PythonTask(function=over, name="over", returns=["over"])
        both = Pipeline(steps=[each, ends])
        loop = Loop(name="l", branch=both, max_iterations=2, break_on="over")
        route = Conditional(name="c", parameter="kind", branches={"a": loop.as_pipeline()})
        pipeline = Pipeline(steps=[route])
        if "resume" in sys.argv:
            print(pipeline.execute(resume="stopped").parameters["r"])
        else:
            pipeline.execute({"items": [0, 1, 2], "kind": "a"}, run_id="stopped")
        """)
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    stopped = run()
    assert "interrupting True" in stopped.stdout
    assert stopped.returncode == -signal.SIGINT, stopped.stderr
    assert stopped.stderr.splitlines()[-1].startswith("KeyboardInterrupt")
    resumed = run("resume")
    assert resumed.stdout.splitlines()[-1] == "[0, 1, 2]", resumed.stderr


async def test_with_isolation_the_items_are_in_processes_at_once(tmp_path: Path):
    number = 2  # as many places as every machine has
    mapped = Map(
        name="m",
        branch=pipe(step(afar.meet, "s", "r")),
        iterate_on="items",
        iterate_as="number",
        isolation="process",
    )
    given = {"items": [*range(number)], "folder": str(tmp_path), "all_of_them": number}
    run = await pipe(mapped).execute(given)
    assert run.parameters["r"] == [0, 1]


async def test_isolation_reaches_nested_branches_and_leaves_async_functions_on_the_loop():
    async def here() -> int:
        return os.getpid()

    branch = pipe(
        parallel(
            "q",
            far=pipe(step(afar.where, "where", "far")),
            near=one(here, "near"),
        )
    )
    run = await pipe(on_items(branch, isolation="process")).execute({"items": [1]})
    ((pid, _, _),) = values_of(run)["far"]
    assert pid != os.getpid()


async def test_iteration_variables_are_in_the_environment_of_the_process(tmp_path: Path):
    inner = Map(
        name="inner",
        branch=pipe(step(afar.environment, "s", "r")),
        iterate_on="words",
        iterate_as="word",
        isolation="process",
    )
    pipeline = pipe(on_items(pipe(inner)))
    words = ["plain text", {"a": [1]}, 1.5, None, True, "nul\0", "x" * 140_000, "ü"]
    run = await pipeline.execute({"items": [3], "words": words, "names": ["item", "word"]})
    (found,) = values_of(run)["r"]
    assert [seen["item"] for seen in found] == ["3"] * len(words)
    expected = ["plain text", '{"a":[1]}', "1.5", "null", "true", None, None, "ü"]
    assert [seen["word"] for seen in found] == expected


async def test_an_object_that_nobody_takes_is_no_trouble_for_the_process():
    def make() -> list[Any]:
        return [1j]

    run = await pipe(
        step(make, "make", pickled("items")),
        on_items(pipe(step(afar.environment, "s", "r")), isolation="process"),
    ).execute({"names": ["item", "RUNNABLE_STEP_PATH"]})
    assert run.parameters["r"] == [{"item": None, "RUNNABLE_STEP_PATH": "m.0.s"}]


async def test_errors_of_many_items_are_all_in_the_group_the_first_one_first():
    first = asyncio.Event()

    async def work(item: int) -> int:
        if item == 5:
            first.set()
            raise LookupError(f"item {item}")
        await in_time(first.wait())
        if item % 2:
            raise LookupError(f"item {item}")
        return item

    group = await group_of(pipe(on_items(one(work, "r"))), {"items": [*range(8)]})
    assert str(group.exceptions[0]) == "item 5"
    assert sorted(map(str, group.exceptions)) == ["item 1", "item 3", "item 5", "item 7"]
    assert group.message == "4 branches of step 'm' failed"
    assert group.exceptions[0].__notes__ == ["It failed in step 'm.5.s'."]
