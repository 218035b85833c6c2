"""Our errors: what they say, and that they reach whoever waits for them."""

from __future__ import annotations

import copy
import pickle

import pytest

from runnable.exceptions import (
    ExecutionFailedError,
    GraphChangedError,
    InvalidNameError,
    LeaseLostError,
    MissingParameterError,
    RunCancelledError,
    RunExistsError,
    RunnableError,
    StepTimeoutError,
    StoreError,
    UnencodableError,
)

SAMPLES = [
    RunnableError("plain"),
    InvalidNameError("step", "a.b", "contains '.'"),
    MissingParameterError("fetch", "url", ["uri"]),
    UnencodableError("result['a']", "is a set"),
    StepTimeoutError("fetch", 1.5),
    ExecutionFailedError("run", "fetch", "LookupError: gone"),
    RunCancelledError("run", "its reader left"),
    RunExistsError("run"),
    GraphChangedError("run", ["step 'a' is gone"]),
    StoreError("s", "is away", "Wait.", temporary=True),
    LeaseLostError("run", 3),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_can_be_sent_to_another_process_and_copied(error: RunnableError):
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
