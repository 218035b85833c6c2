"""Event loops that a step blocks, named with the stack of where it is stuck."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, cast

from runnable.blocking import PLAYED
from runnable.scope import CURRENT, Run, Scope

BLOCKED_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.1
"""How often a loop with live runs is looked at; so much later a block may be seen to begin."""
_MAX_FRAMES: Final = 30
_RUN_OF_HANDLE: Final = cast("Any", asyncio.Handle)._run.__code__


class _Watched:
    """A loop with live runs, and the step of a task that it is at.

    Args:
        loop: It.
        thread: The one it runs on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self.loop, self.thread = loop, thread
        self.runs: dict[Run, set[str]] = {}
        """Each live run, and the steps of it that were named."""
        self._at: tuple[asyncio.Task[Any], Scope | None] | None = None
        """The task that the loop is at, and the step."""
        self._turned = True
        self._since = 0.0
        clock_of = getattr(time, "pthread_getcpuclockid", None)  # not on every system
        self._clock: int | None = None if clock_of is None else clock_of(thread)
        self._used, self._looked = self._cpu_seconds(), time.monotonic()

    def look(self, now: float) -> None:
        """Warn of a step that has held the loop for too long.

        A task makes one step in a turn of the loop, so the same task before the loop has got to
        what was scheduled meanwhile is at the same step of its own; as that may be several steps
        of a pipeline, one after the other, those are told apart too. If the last look is long ago,
        the loop's thread was at work in C and let no other look, or the process stood still.
        """
        task, used = asyncio.current_task(self.loop), self._cpu_seconds()
        worked, self._used = used - self._used, used
        unseen, self._looked = now - self._looked, now
        if task is None:  # a loop that waits is not woken
            self._at = None
            return
        frames = self._frames()
        at, before = (task, _scope_of(task, frames)), self._at
        if unseen >= BLOCKED_SECONDS + _LOOK_SECONDS and worked >= BLOCKED_SECONDS / 2:
            self._name(*at, frames, is_over=True)
        elif self._turned or at != before or unseen > 2 * BLOCKED_SECONDS:
            self._at, self._since = at, now
            if self._turned:
                self._turned = False
                self._schedule()
        elif now - self._since >= BLOCKED_SECONDS:
            self._name(*at, frames)

    def _frames(self) -> list[FrameType]:
        """Those of the loop's thread, from the inmost on."""
        frame = sys._current_frames().get(self.thread)  # pyright: ignore[reportPrivateUsage]
        frames: list[FrameType] = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        return frames

    def _cpu_seconds(self) -> float:
        """What the loop's thread has used of the processor; nothing once it has ended."""
        if self._clock is None:
            return 0.0
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def _schedule(self) -> None:
        with suppress(RuntimeError):  # closed
            self.loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        self._turned = True

    def _name(
        self,
        task: asyncio.Task[Any],
        scope: Scope | None,
        frames: list[FrameType],
        *,
        is_over: bool = False,
    ) -> None:
        """Warn, in the step's own log, of where it is stuck; once per step and run.

        If that is over, the step ends as soon as this thread waits for anything, as for a file.
        """
        if scope is None or scope.closed or scope.run.is_blocked or _is_debugged(frames):
            return
        named = self.runs.get(scope.run)
        if named is None or scope.name in named:
            return
        text = _sentence(scope, frames, with_lines=not is_over)
        if asyncio.current_task(self.loop) is task:  # else it went on while it was looked at
            named.add(scope.name)
            scope.warn(text)


class LoopWatch:
    """Looks at all event loops of the process that have live runs, from one daemon thread.

    A loop without them is not looked at, and a step costs nothing.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        """Watch nothing, as a child does after a fork."""
        self._loops: dict[asyncio.AbstractEventLoop, _Watched] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, run: Run) -> Generator[None, None, None]:
        """Watch the loop of a run, as long as the run is live; in a simulation nothing blocks."""
        if PLAYED.get() is not None:
            yield
            return
        with self._changed:
            watched = self._loops.get(run.loop)
            if watched is None:
                watched = self._loops[run.loop] = _Watched(run.loop, run.thread)
            watched.runs[run] = set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="runnable-watch", daemon=True
                )
                self._thread.start()
            elif len(self._loops) == 1 and len(watched.runs) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                watched.runs.pop(run, None)
                if not watched.runs and self._loops.get(run.loop) is watched:
                    del self._loops[run.loop]

    def _serve(self) -> None:
        while True:
            began = time.monotonic()
            self._look_at_all()
            # A look that took long was itself held up, by what the next one is to see.
            if time.monotonic() - began < _LOOK_SECONDS:
                time.sleep(_LOOK_SECONDS)

    def _look_at_all(self) -> None:
        """Look at each loop, once there is one; nothing of them is kept here."""
        with self._changed:
            while not self._loops:
                self._changed.wait()
            loops = list(self._loops.values())
        now = time.monotonic()
        for watched in loops:
            watched.look(now)


def _scope_of(task: asyncio.Task[Any], frames: list[FrameType]) -> Scope | None:
    """The step in whose context a task runs: its own, or one that it made."""
    get_context = getattr(task, "get_context", None)
    if get_context is not None:
        return get_context().get(CURRENT)
    for frame in frames:  # before Python 3.12 the callback of the task's step knows
        if frame.f_code is _RUN_OF_HANDLE:
            handle = frame.f_locals["self"]
            return None if handle is None else handle._context.get(CURRENT)  # it ends just now
    return None


def _is_debugged(frames: list[FrameType]) -> bool:
    """Whether it stands still because somebody looks at it."""
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None:
        return True
    return any(frame.f_trace is not None for frame in frames)


def _sentence(scope: Scope, frames: list[FrameType], *, with_lines: bool) -> str:
    own = _users_own(frames)
    if with_lines:
        places = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in own)
    else:
        codes = ((frame.f_code, frame.f_lineno) for frame in own)
        places = traceback.StackSummary.from_list(
            [(code.co_filename, line, code.co_name, "") for code, line in codes]
        )
    stack = "".join(places.format()).rstrip("\n")
    return (
        f"Step {scope.path!r} has blocked the event loop for over {BLOCKED_SECONDS:g} s, and "
        f"everything else on it stands still. Await what takes so long, or move it into a "
        f"function without `async`, which runs on a thread. It is here:\n{stack}"
    )


def _users_own(frames: list[FrameType]) -> list[FrameType]:
    """The frames of the step's code, outermost first: those within ours and the loop's."""
    own: list[FrameType] = []
    for frame in frames:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(("runnable.tasks.", "asyncio.events")):
            break
        own.append(frame)
    return own[:_MAX_FRAMES][::-1]


WATCH: Final = LoopWatch()
"""The one of this process."""

os.register_at_fork(after_in_child=WATCH._forget)  # pyright: ignore[reportPrivateUsage]
