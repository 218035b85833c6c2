"""A contender's process: a line of JSON on stdin asks for a case, one on stdout answers.

    python -m benchmarks.peers.worker benchmarks.peers.contenders.langgraph FOLDER

It runs in the contender's environment, which has neither `runnable` nor its dependencies.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from statistics import median
from typing import Any, TextIO, cast

from benchmarks.peers.contender import Contender, Seconds


def main() -> None:
    """Answer until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.worker")
    parser.add_argument("module")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die", type=int, help="run so many steps and be killed by the last")
    options = parser.parse_args()
    answers = _own_stdout()
    with asyncio.Runner() as runner:
        contender = _contender(options.module, options.folder)
        if options.die:
            runner.run(contender.die(options.folder, options.die))
            return
        _say(answers, {"ready": sys.version.split()[0]})
        for line in sys.stdin:
            _say(answers, _answer(runner, contender, json.loads(line)))
        runner.run(contender.close())


def _own_stdout() -> TextIO:
    """Keep stdout for the answers; what else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _contender(module: str, folder: Path) -> Contender:
    return importlib.import_module(module).Contender(module, folder)


def _answer(
    runner: asyncio.Runner, contender: Contender, asked: dict[str, Any]
) -> dict[str, object]:
    case = cast("Callable[..., Coroutine[Any, Any, Seconds]]", getattr(contender, asked["case"]))
    taken: list[Seconds] = []
    try:
        for _ in range(asked["repeats"]):
            contender.tidy()
            taken.append(runner.run(case(**asked["arguments"])))
    except Exception:
        return {"failed": traceback.format_exc()}
    return {"seconds": {part: median(one[part] for one in taken) for part in taken[0]}}


def _say(answers: TextIO, what: dict[str, object]) -> None:
    print(json.dumps(what), file=answers, flush=True)


if __name__ == "__main__":
    main()
