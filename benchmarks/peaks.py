"""The memory of a child process at its highest."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Literal

How = Literal["resident", "traced"]
"""By the kernel's count of the process, or by `tracemalloc` from where the work begins."""

HOW: Final[tuple[How, ...]] = ("resident", "traced")
ROOT: Final = Path(__file__).parents[1]


def peak_of_child(module: str, *asked: object) -> float:
    """The bytes that a module prints which is run with those arguments, as one line of JSON."""
    answer = subprocess.run(
        [sys.executable, "-m", module, json.dumps(asked)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    return float(answer.stdout)


def peak_while(work: Coroutine[Any, Any, object], how: How) -> int:
    """Run that, in the child, and give the peak in bytes."""
    if how == "traced":
        tracemalloc.start()
    asyncio.run(work)
    return tracemalloc.get_traced_memory()[1] if how == "traced" else _resident_peak()


def _resident_peak() -> int:
    """The highest resident memory of this process, in bytes.

    On Linux `ru_maxrss` counts what the parent had at the fork, too; the kernel's mark does not.
    """
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    kib = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kib
