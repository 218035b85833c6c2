"""What tests of plug-ins need: one conformance suite a kind of plug-in, for pytest.

A store of your own is held to the same law as those that come with `runnable`:

    from runnable.testing import RunLogStoreSuite

    class TestMyStore(RunLogStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(folder=tmp_path)

The suites need `runnable[test]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runnable.testing.run_log_store import RunLogStoreSuite

__all__ = ["RunLogStoreSuite"]


def __getattr__(name: str) -> object:
    if name == "RunLogStoreSuite":
        from runnable.testing.run_log_store import RunLogStoreSuite

        return RunLogStoreSuite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
