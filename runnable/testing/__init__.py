"""What tests need: whole runs on a virtual clock, and a conformance suite a kind of plug-in.

`simulate(pipeline, seed, faults)` plays a run to its end, through crashes and a failing store.

A store of your own is held to the same law as those that come with `runnable`:

    from runnable.testing import RunLogStoreSuite

    class TestMyStore(RunLogStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(folder=tmp_path)

`CatalogSuite` is the same for a catalog of your own, `SecretsSuite` for a secrets service. The
suites need `runnable[test]`; `simulate` needs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runnable.testing.catalog import CatalogSuite
    from runnable.testing.run_log_store import RunLogStoreSuite
    from runnable.testing.secrets import SecretsSuite
    from runnable.testing.simulation import simulate

__all__ = ["CatalogSuite", "RunLogStoreSuite", "SecretsSuite", "simulate"]


def __getattr__(name: str) -> object:
    if name == "CatalogSuite":
        from runnable.testing.catalog import CatalogSuite

        return CatalogSuite
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
