"""A program whose step has a child that ends neither with its driver nor at TERM."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from runnable import Pipeline, PythonTask, ShellTask

STUBBORN = """
echo $$ >> pids
if [ "$(wc -l < pids)" -gt 1 ]; then exit 0; fi
trap '' TERM
sleep 1000 &
echo $! > grandchild
mv grandchild begun
wait
"""
LEAVES = """
echo $$ >> pids
if [ "$(wc -l < pids)" -gt 1 ]; then exit 0; fi
sleep 1000 > /dev/null 2>&1 &
echo $! > grandchild
mv grandchild begun
wait
"""


def hang() -> None:
    """Hold the interpreter, so that neither a thread of it nor a handler of TERM runs."""
    with Path("pids").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(Path("pids").read_text().splitlines()) > 1:
        return
    Path("being").write_text(str(os.getpid()))
    Path("being").rename("begun")
    ctypes.PyDLL(None).sleep(1000)


def pipeline(kind: str, on_interrupted: str = "rerun", **more: object) -> Pipeline:
    """One step of that kind, after one that is done."""
    settings: dict[str, object] = {"name": "hangs", "on_interrupted": on_interrupted, **more}
    if kind == "isolated":
        step = PythonTask(function=hang, isolation="process", **settings)  # pyright: ignore[reportArgumentType]
    else:
        command = STUBBORN if kind == "stubborn" else LEAVES
        step = ShellTask(command=command, **settings)  # pyright: ignore[reportArgumentType]
    return Pipeline(steps=[ShellTask(name="first", command="x=1", returns=["x"]), step])


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    pipeline(sys.argv[2]).execute(run_id="left")
