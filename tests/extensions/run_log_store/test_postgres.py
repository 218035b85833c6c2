"""The store in PostgreSQL: the law of every store, and what is its own."""

from __future__ import annotations

import pytest

from runnable.extensions.run_log_store.postgres import PostgresRunLogStore
from runnable.testing import RunLogStoreSuite


@pytest.fixture
def store(postgres_store: PostgresRunLogStore) -> PostgresRunLogStore:
    return postgres_store


class TestPostgres(RunLogStoreSuite):
    """In one transaction per append."""

    @pytest.fixture
    def store(self, postgres_store: PostgresRunLogStore) -> PostgresRunLogStore:
        return postgres_store
