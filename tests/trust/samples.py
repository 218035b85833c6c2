"""What a process holds over time, and what may be said of it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import ClassVar, Final, TextIO

import apsw

from tests.trust.holdings import POOLS
from tests.trust.trend import Point, Trend, medians, trend_of

MIB_AN_HOUR: Final = 1.0
"""How much more memory an hour may take."""
BLOCK_BYTES: Final = 128
"""What a block of Python's memory takes, about; those of up to 512 bytes are counted."""
LONG_HOURS: Final = 0.5
GROSS_MIB: Final = 8.0
"""So much more after a few minutes is no step of the allocator's."""
MANY: Final = 8
"""Measurements from which on a trend says something."""


class Series:
    """Measurements of one thing; they take the same memory however many they are, but for 16 bytes.

    Args:
        at: When it began, by the monotonic clock.
    """

    def __init__(self, at: float) -> None:
        self._began, self._at, self._values = at, array("d"), array("d")

    def add(self, value: float) -> None:
        """One more, taken now."""
        self._at.append(time.monotonic() - self._began)
        self._values.append(value)

    def after(self, seconds: float) -> list[Point]:
        """Those that were taken so many seconds after the beginning, or later."""
        points = zip(self._at, self._values, strict=True)
        return [Point(at, value) for at, value in points if at >= seconds]


class Samples:
    """What was measured, and when."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.resident = Series(self.began)
        """MiB, each second."""
        self.blocks = Series(self.began)
        """Blocks of Python's memory in use; like all below while no run is live."""
        self.objects = Series(self.began)
        self.database = Series(self.began)
        """MiB that SQLite has in use."""
        self.allocated = Series(self.began)
        """MiB that C's `malloc` has given out, to Python and SQLite too; resident is more: what was
        given back lies between what is in use, in a part of the memory for each thread."""
        self.descriptors = Series(self.began)
        self.threads = Series(self.began)
        """Threads but for those of the process's pools."""
        self.pooled = Series(self.began)
        """The threads of the pools, which are started when needed, up to a limit, and kept."""
        self.tasks = Series(self.began)

    def take_resident(self) -> None:
        """Measure what changes all the time."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.add(pages * os.sysconf("SC_PAGESIZE") / 2**20)

    def take_quiet(self) -> None:
        """Measure what is left when nothing runs."""
        gc.collect()
        self.blocks.add(sys.getallocatedblocks())
        self.objects.add(len(gc.get_objects()))
        self.database.add(apsw.memory_used() / 2**20)
        self.allocated.add(_allocated() / 2**20)
        self.descriptors.add(len(os.listdir("/proc/self/fd")))
        names = [thread.name for thread in threading.enumerate()]
        pooled = sum(name.startswith(tuple(POOLS)) for name in names)
        self.pooled.add(pooled)
        self.threads.add(len(names) - pooled)
        self.tasks.add(len(asyncio.all_tasks()))


class _Mallinfo(ctypes.Structure):
    """What glibc's `mallinfo2` gives."""

    _fields_: ClassVar = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]
    field_4: int
    """Bytes in mappings of their own."""
    field_7: int
    """Bytes given out otherwise."""


def _allocated() -> float:
    """Bytes that `malloc` has given out; 0 where the C library does not say."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0.0
    ask.restype = _Mallinfo
    told: _Mallinfo = ask()
    return float(told.field_7 + told.field_4)


def report(samples: Samples, seconds: float, out: TextIO) -> list[str]:
    """Say what was measured; gives what is wrong with it."""
    warm = max(0.3 * seconds, min(30.0, seconds / 2))
    wrong: list[str] = []
    for name, series in (
        ("descriptors", samples.descriptors),
        ("threads in pools", samples.pooled),
        ("other threads", samples.threads),
        ("asyncio tasks", samples.tasks),
    ):
        points = series.after(warm)
        values = [point.value for point in points]
        if values:
            print(
                f"{name}: {values[0]:.0f} … {values[-1]:.0f}, at most {max(values):.0f}", file=out
            )
            grows = len(values) >= MANY and trend_of(points).low > 0
            if grows and series is not samples.pooled:
                wrong.append(f"{name} grow")
    if any(point.value > sum(POOLS.values()) for point in samples.pooled.after(0)):
        wrong.append("the pools have more threads than their limits")
    hours = (seconds - warm) / 3600
    for name, unit, series in (
        ("resident memory", 1.0, samples.resident),
        ("Python's blocks", BLOCK_BYTES / 2**20, samples.blocks),
        ("objects of the collector", 0.0, samples.objects),
        ("SQLite's memory", 1.0, samples.database),
        ("memory that malloc has given out", 1.0, samples.allocated),
    ):
        points = series.after(warm)
        if series is samples.resident:
            points = medians(points, 5)
        if len(points) < MANY:
            print(f"{name}: too few measurements after the warm-up to say anything", file=out)
            continue
        trend = trend_of(points)
        print(f"{name}: {points[0].value:,.1f}, then {trend}{_verdict(trend, unit)}", file=out)
        gained = unit * trend.low * hours
        # In a short time the allocator's pages alone can make steps of a few MiB.
        is_told = hours >= LONG_HOURS or series is samples.blocks or gained > GROSS_MIB
        if unit and is_told and trend.low * unit > MIB_AN_HOUR:
            wrong.append(f"{name} grow by more than {MIB_AN_HOUR} MiB an hour")
    print(f"(over {60 * hours:.1f} minutes, after {warm:.0f} s of warm-up)", file=out)
    return wrong


def _verdict(trend: Trend, unit: float) -> str:
    """What may be concluded about the bound."""
    if not unit:
        return ""
    low, high = trend.low * unit, trend.high * unit
    shown = "" if unit == 1.0 else f", so {low:+.2f} to {high:+.2f} MiB"
    if high <= MIB_AN_HOUR:
        return f"{shown}: within {MIB_AN_HOUR:.0f} MiB an hour"
    if low > MIB_AN_HOUR:
        return f"{shown}: more than {MIB_AN_HOUR:.0f} MiB an hour"
    return f"{shown}: too short to tell from {MIB_AN_HOUR:.0f} MiB an hour"
