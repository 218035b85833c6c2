"""The proofs of what is promised: small in `make test`, in full in `make trust`."""

from __future__ import annotations

import pytest


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the whole proof is asked for, as `make trust` does."""
    return bool(request.config.getoption("--full"))
