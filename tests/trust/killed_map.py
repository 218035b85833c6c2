"""Maps whose process kills itself when a given number of items is in the journal.

The items that are to be done by then go on, and the others stand still for ever, so that the
journal of the killed process holds just these. A later life does whatever is left.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runnable import AsyncPipeline, AsyncPythonTask, Loop, Map, Pipeline, PythonTask, current
from runnable.sdk import Step

RUN_ID = "killed"
TURNS = 10


@dataclass(frozen=True)
class Shape:
    """What is run, and when it is killed.

    Args:
        name: What it is called.
        rows: Items of the outer map, or turns of the loop; 1: there is none.
        cells: Items of the inner map.
        kill_at: The process is killed when so many cells are done.
    """

    name: str
    rows: int
    cells: int
    kill_at: int

    def path(self, row: int, cell: int) -> str:
        """Where the step stands that works on a cell."""
        before = (
            "" if self.name == "map" else f"{'turns' if self.name == 'loop' else 'rows'}.{row}."
        )
        return f"{before}cells.{cell}.work"

    @property
    def paths(self) -> list[str]:
        """Those of all cells."""
        return [self.path(row, cell) for row in range(self.rows) for cell in range(self.cells)]

    def done_first(self) -> frozenset[str]:
        """The cells that the first life does: any, but in a loop turn after turn."""
        if self.name == "loop":
            turn, some = divmod(self.kill_at, self.cells)
            last = [self.path(turn, cell) for cell in range(self.cells)]
            begun = self.paths[: turn * self.cells]
            return frozenset([*begun, *random.Random(7).sample(last, k=some)])
        return frozenset(random.Random(7).sample(self.paths, k=self.kill_at))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("map", rows=1, cells=1_000, kill_at=613),
        Shape("nested", rows=30, cells=30, kill_at=613),
        Shape("loop", rows=TURNS, cells=100, kill_at=6 * 100 + 37),
    )
}


def first_list(row: int, count: int) -> list[str]:
    """The items that the first life is given."""
    return [f"{row}-{number}" for number in range(count)]


def pipeline(shape: Shape, folder: Path, life: int) -> AsyncPipeline:
    """The pipeline of a shape, as it is in a life of the process."""
    done_first = shape.done_first()

    def trace(word: str) -> None:
        file = os.open(folder / "traces", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, f"{life} {word} {current().path}\n".encode())
        os.close(file)

    def listed(row: int, count: int) -> list[str]:
        trace("listed")
        items = first_list(row, count)
        return items if life == 1 else [f"of life {life}", *reversed(items)]

    def rows() -> list[int]:
        trace("listed")
        return [*range(shape.rows)] if life == 1 else [7]

    def row_cells(row: int = 0) -> list[str]:
        return listed(row, shape.cells)

    def turn_cells(turn: int) -> list[str]:
        return listed(turn, shape.cells)

    async def work(cell: str) -> str:
        trace("begun")
        if life == 1 and current().path not in done_first:
            await asyncio.Event().wait()
        trace("ended")
        return cell.upper() + "!"

    def judge(done: list[str], total: int, turn: int) -> tuple[int, bool]:
        return total + len(done), turn == TURNS - 1

    step = AsyncPythonTask(function=work, name="work", returns=["done"])
    cells = Map(name="cells", branch=step.as_pipeline(), iterate_on="list", iterate_as="cell")
    source = turn_cells if shape.name == "loop" else row_cells
    steps: list[Step] = [PythonTask(function=source, name="list", returns=["list"]), cells]
    if shape.name == "map":
        return AsyncPipeline(steps=steps)
    if shape.name == "loop":
        steps.append(PythonTask(function=judge, name="judge", returns=["total", "over"]))
        turns = Loop(
            name="turns",
            branch=Pipeline(steps=steps),
            max_iterations=2 * TURNS,
            break_on="over",
            index_as="turn",
        )
        return AsyncPipeline(steps=[turns])
    outer = Map(name="rows", branch=Pipeline(steps=steps), iterate_on="table", iterate_as="row")
    return AsyncPipeline(steps=[PythonTask(function=rows, name="table", returns=["table"]), outer])


async def run(shape: Shape, folder: Path, life: int) -> None:
    """Begin the run, or resume it; the first life ends at the cell that it is to end at."""
    options: Any = {"configuration_file": str(folder / "runnable-config.yaml")}
    options |= {"run_id": RUN_ID} if life == 1 else {"resume": RUN_ID}
    done = 0
    async with aclosing(
        pipeline(shape, folder, life).execute_stream({"total": 0}, **options)
    ) as events:
        async for event in events:
            if event.type == "task_completed" and event.task_name == "work":
                done += 1  # told, so it is in the journal
                if life == 1 and done == shape.kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
    print(event.type)


if __name__ == "__main__":
    asyncio.run(run(SHAPES[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])))
