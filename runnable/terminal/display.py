"""The live display of a process: its runs, drawn by a thread, and the text of tasks above them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING, Final

from runnable import defaults
from runnable.capture import ROUTER
from runnable.exceptions import visible
from runnable.lines import last_state, settled
from runnable.scope import CURRENT
from runnable.terminal.claims import Children, ReadingStdin
from runnable.terminal.progress import Progress
from runnable.terminal.screen import Screen

if TYPE_CHECKING:
    from runnable.clock import Clock
    from runnable.journal import Item
    from runnable.records import Record
    from runnable.terminal.picture import Picture

TURN_SECONDS: Final = 0.1
"""How often the rows are drawn."""


class Display:
    """Shows the runs that execute at once.

    Whatever goes wrong in it ends the display, and never a run.

    Args:
        screen: Where to.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = RLock()
        self._runs: list[Progress] = []
        self._shared = False
        """Whether several runs were shown at once."""
        self._over = Event()
        self._stdin, self._children = ReadingStdin(screen), Children(screen)

    @cached_property
    def _picture(self) -> Picture:
        # Loading what draws takes a while: the thread does it beside the first steps.
        from runnable.terminal.picture import Picture

        return Picture(self._screen.stream)

    def begin(self) -> None:
        """Stand in the way of what is printed, and draw until `end`."""
        ROUTER.show(self, self._screen.covers)
        self._stdin.stand_in()
        self._children.watch()
        Thread(target=self._draw_on, name="runnable-display", daemon=True).start()

    def end(self) -> None:
        """Draw no more, and leave the terminal to others."""
        with self._lock:
            self._over.set()
            with suppress(OSError):
                self._screen.end()
        self._step_aside()
        ROUTER.show(None)

    def disown(self) -> None:
        """Have nothing to do with the terminal, in a child after a fork; takes no lock."""
        self._over.set()
        self._step_aside()
        ROUTER.disown()

    def _step_aside(self) -> None:
        self._stdin.step_aside()
        self._children.step_aside()

    def join(
        self, first: Record, clock: Clock
    ) -> tuple[Progress, Callable[[Sequence[Item]], None]]:
        """Show one more run.

        Args:
            first: The record that opened it.
            clock: Tells how long things take.

        Returns:
            The run as it is shown, and what is to be called with all that is appended.
        """
        progress = Progress(first, clock)

        def observe(items: Sequence[Item]) -> None:
            self._carefully(progress.observe, items)
            self._carefully(self._stdin.ended, progress.run_id, items)

        self._runs.append(progress)
        self._shared = self._shared or len(self._runs) > 1
        return progress, observe

    def leave(self, progress: Progress) -> None:
        """A run has ended: leave a summary of it."""
        self._carefully(self._sum_up, progress)

    def _sum_up(self, progress: Progress) -> None:
        with self._lock:
            self._runs.remove(progress)
            if self._over.is_set():
                return
            progress.catch_up()
            if progress.status == defaults.RUNNING:  # its store has failed
                progress.end(defaults.INTERRUPTED, "")
            size = self._screen.size()
            text = self._picture.summary(progress, *size, alone=not self._shared)
            if self._runs:
                self._screen.print(text, self._picture.live(self._runs, *size))
            else:
                self._screen.end(text)

    def print(self, text: str, *, raw: bool = False) -> None:
        """Show whole lines above the runs; their control characters visibly, unless `raw`."""
        self._carefully(self._print, text, raw)

    def _print(self, text: str, raw: bool) -> None:
        text = settled(text)
        if text:
            self._screen.print(text if raw else visible(text))
        if not raw:
            self.last_line("")

    def last_line(self, text: str) -> None:
        """Show in it what the current step says, if that is not printed above."""
        scope = CURRENT.get()
        if scope is None:
            return
        for progress in self._runs:
            progress.say(scope, last_state(text.rstrip("\n").rpartition("\n")[2]))

    @contextmanager
    def aside(self) -> Generator[None, None, None]:
        """Be out of the way while something else writes to the terminal."""
        self._carefully(self._screen.step_aside)
        try:
            yield
        finally:
            self._carefully(self._screen.come_back)

    def visible(self, text: str) -> str:
        """The text with its control characters made visible."""
        return visible(text)

    def _draw_on(self) -> None:
        self._carefully(self._draw)
        while not self._over.wait(TURN_SECONDS):
            self._carefully(self._draw)

    def _draw(self) -> None:
        picture = self._picture
        with self._lock:
            runs = [*self._runs]
            if self._over.is_set() or not runs:
                return
            self._children.look()
            picture.turn()
            for progress in runs:
                progress.catch_up()
            self._screen.draw(picture.live(runs, *self._screen.size()))

    def _carefully(self, work: Callable[..., None], *arguments: object) -> None:
        """Do something whose failure must be no one's but the display's."""
        try:
            work(*arguments)
        except Exception:
            self._over.set()
            self._step_aside()
            ROUTER.show(None)
