"""A signal wakes the loop of a kernel, although the kernel's handler does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from runnable.waking import Waking

PATIENCE = 10.0


@pytest.fixture
def waking(monkeypatch: pytest.MonkeyPatch) -> Waking:
    """In a process that is a kernel, as far as that is looked at."""
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    return Waking()


@pytest.fixture
def signalled() -> Iterator[asyncio.Event]:
    """Is set on the loop as a kernel does it, which does not wake the loop; signals keep coming."""
    told, over = asyncio.Event(), threading.Event()

    def handle(*_: object) -> None:
        asyncio.get_running_loop().call_soon(told.set)

    def send() -> None:
        while not over.wait(0.05):
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send)
    sender.start()
    yield told
    over.set()
    sender.join()
    signal.signal(signal.SIGUSR1, before)


def wakeup_fd() -> int:
    """Where signals write to now."""
    now = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(now)
    return now


async def test_a_signal_wakes_a_loop_that_waits(waking: Waking, signalled: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with waking.by_signals():
        async with asyncio.timeout(PATIENCE):
            await signalled.wait()
    assert loop.time() - began < PATIENCE / 2


async def test_all_is_put_back_after_the_last_run(waking: Waking) -> None:
    before = wakeup_fd()
    first, second = waking.by_signals(), waking.by_signals()
    with first:
        second.__enter__()
        ours = wakeup_fd()
    assert wakeup_fd() == ours != before
    second.__exit__(None, None, None)
    assert wakeup_fd() == before


async def test_what_somebody_set_meanwhile_stays(waking: Waking) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with waking.by_signals():
            before = signal.set_wakeup_fd(writing)
        assert wakeup_fd() == writing
        assert before != -1
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)


async def test_outside_of_a_kernel_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    before = wakeup_fd()
    with Waking().by_signals():
        assert wakeup_fd() == before


async def test_on_another_thread_nothing_changes(waking: Waking) -> None:
    def elsewhere() -> None:
        with waking.by_signals():
            pass

    before = wakeup_fd()
    await asyncio.to_thread(elsewhere)
    assert wakeup_fd() == before
