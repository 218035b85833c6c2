"""The handlers of signals: in place of Python's own alone, and put back."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator

import pytest

from runnable.signals import Signals


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Python's own handlers before and after each test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_cancels_with_its_name_and_ends_the_process_after(signals: Signals):
    reasons: list[str] = []
    with pytest.raises(KeyboardInterrupt), signals.handled(reasons.append):
        signal.raise_signal(signal.SIGINT)
        assert reasons == ["the process got SIGINT"]


def test_sigterm_ends_with_the_status_of_a_shell(signals: Signals):
    reasons: list[str] = []
    with pytest.raises(SystemExit) as raised, signals.handled(reasons.append):
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 143
    assert reasons == ["the process got SIGTERM"]


def test_the_second_ctrl_c_interrupts_a_session_at_once(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    with pytest.raises(KeyboardInterrupt), signals.handled(lambda reason: None):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it goes on")


def test_all_runs_that_are_live_are_cancelled(signals: Signals):
    first: list[str] = []
    second: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        signals.handled(first.append),
        signals.handled(second.append),
    ):
        signal.raise_signal(signal.SIGINT)
    assert first == second == ["the process got SIGINT"]


def test_the_handlers_are_put_back(signals: Signals):
    with signals.handled(lambda reason: None):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_servers_own_handler_stays(signals: Signals):
    def own(number: int, frame: object) -> None: ...

    signal.signal(signal.SIGTERM, own)
    with signals.handled(lambda reason: None):
        assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGTERM) is own


def test_a_second_run_is_cancelled_although_somebody_put_pythons_own_back_before_it(
    signals: Signals,
):
    reasons: list[str] = []
    with pytest.raises(KeyboardInterrupt), signals.handled(lambda reason: None):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with signals.handled(reasons.append):
            signal.raise_signal(signal.SIGINT)
            assert reasons == ["the process got SIGINT"]
    assert reasons == ["the process got SIGINT"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigint_leaves_a_run_alone_that_is_not_its_to_cancel(signals: Signals):
    first: list[str] = []
    second: list[str] = []
    with signals.handled(first.append, sigint=False):
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt), signals.handled(second.append):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (first, second) == ([], ["the process got SIGINT"])


def test_sigterm_ends_it_all_the_same(signals: Signals):
    reasons: list[str] = []
    with pytest.raises(SystemExit), signals.handled(reasons.append, sigint=False):
        signal.raise_signal(signal.SIGTERM)
    assert reasons == ["the process got SIGTERM"]


def test_a_handler_that_somebody_sets_meanwhile_stays(signals: Signals):
    def own(number: int, frame: object) -> None: ...

    with signals.handled(lambda reason: None):
        signal.signal(signal.SIGTERM, own)
    assert signal.getsignal(signal.SIGTERM) is own


def test_the_handler_of_asyncio_cancels_its_main_task_and_is_put_back(signals: Signals):
    reasons: list[str] = []
    handlers: list[object] = []

    async def main() -> None:
        handlers.append(signal.getsignal(signal.SIGINT))
        try:
            with signals.handled(reasons.append):
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
        finally:
            handlers.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert handlers[0] is handlers[1]
    assert handlers[0] is not signal.default_int_handler
    assert reasons == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_is_left_of_the_limit_of_a_process_that_ends(signals: Signals):
    before = threading.active_count()
    with pytest.raises(SystemExit), signals.handled(lambda reason: None):
        signal.raise_signal(signal.SIGTERM)
        assert threading.active_count() == before + 1
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)
    assert threading.active_count() == before


def test_on_another_thread_nothing_changes(signals: Signals):
    found: list[object] = []

    def work() -> None:
        with signals.handled(lambda reason: None):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_an_error_without_a_signal_comes_through(signals: Signals):
    with pytest.raises(LookupError), signals.handled(lambda reason: None):
        raise LookupError("gone")


def test_the_error_of_a_run_that_a_signal_ended_gives_way_to_the_signal(signals: Signals):
    with pytest.raises(KeyboardInterrupt), signals.handled(lambda reason: None):
        signal.raise_signal(signal.SIGINT)
        raise LookupError("cancelled")


def test_an_inline_function_on_the_main_thread_is_interrupted(signals: Signals):
    main = threading.main_thread().ident
    assert main is not None
    went_on: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        signals.handled(lambda reason: None),
        signals.reaching(main),
    ):
        signal.raise_signal(signal.SIGINT)
        went_on.append("after the signal")
    assert went_on == []


def test_an_inline_function_on_another_thread_is_not_interrupted(signals: Signals):
    went_on: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        signals.handled(lambda reason: None),
        signals.reaching(-1),
    ):
        signal.raise_signal(signal.SIGINT)
        went_on.append("after the signal")
    assert went_on == ["after the signal"]


def test_a_signal_after_the_runs_is_pythons_own(signals: Signals):
    with signals.handled(lambda reason: None):
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_next_run_knows_nothing_of_an_earlier_signal(signals: Signals):
    with pytest.raises(KeyboardInterrupt), signals.handled(lambda reason: None):
        signal.raise_signal(signal.SIGINT)
    with signals.handled(lambda reason: None):
        pass
