"""What tests need: whole runs on a virtual clock, and a conformance suite a kind of plug-in.

`simulate(pipeline, seed, faults)` plays a run to its end, through crashes and a failing store.

A store of your own is held to the same law as those that come with `runnable`:

    from runnable.testing import RunLogStoreSuite

    class TestMyStore(RunLogStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(folder=tmp_path)

`SecretsSuite` is the law of secrets services. The suites need `runnable[test]`; `simulate` needs
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runnable.testing.run_log_store import RunLogStoreSuite
    from runnable.testing.secrets import SecretsSuite
    from runnable.testing.simulation import simulate

__all__ = ["RunLogStoreSuite", "SecretsSuite", "simulate"]


def __getattr__(name: str) -> object:
    if name == "RunLogStoreSuite":
        from runnable.testing.run_log_store import RunLogStoreSuite

        return RunLogStoreSuite
    if name == "SecretsSuite":
        from runnable.testing.secrets import SecretsSuite

        return SecretsSuite
    if name == "simulate":
        from runnable.testing.simulation import simulate

        return simulate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
