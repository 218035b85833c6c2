"""The settings of a task, and after which errors it is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from runnable import TaskReturns
from runnable.exceptions import DefinitionError
from runnable.tasks import TaskSettings


def test_a_task_is_tried_once_and_has_all_the_time_unless_it_says_otherwise():
    settings = TaskSettings()
    assert settings.retries == 0
    assert settings.backoff == 1.0
    assert settings.timeout is None
    assert list(settings.declared) == []
    assert settings.retryable(LookupError())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_ends_a_process_is_not_tried_again_by_default(error: BaseException):
    assert not TaskSettings().retryable(error)


@pytest.mark.parametrize(
    ("retry_on", "yes", "no"),
    [
        (OSError, FileNotFoundError(), ValueError()),
        ((OSError, KeyError), KeyError(), ValueError()),
        ([OSError, KeyError], KeyError(), ValueError()),
        (lambda error: str(error) == "1", ValueError(1), ValueError(2)),
        (SystemExit, SystemExit(), ValueError()),
        ((), None, ValueError()),
    ],
)
def test_types_or_a_predicate_say_after_what_it_is_tried_again(
    retry_on: Any, yes: BaseException | None, no: BaseException
):
    settings = TaskSettings(retry_on=retry_on)
    assert yes is None or settings.retryable(yes)
    assert not settings.retryable(no)


def test_the_truth_of_a_predicates_answer_counts():
    assert TaskSettings(retry_on=lambda error: "yes").retryable(ValueError()) is True  # pyright: ignore[reportArgumentType]
    assert TaskSettings(retry_on=lambda error: 0).retryable(ValueError()) is False  # pyright: ignore[reportArgumentType]


def test_names_in_returns_may_be_text_mappings_or_themselves():
    returns: Any = ["a", {"name": "b", "kind": "metric"}, TaskReturns(name="c", kind="object")]
    declared = TaskSettings(returns=returns).declared
    assert [(one.name, one.kind) for one in declared] == [
        ("a", "json"),
        ("b", "metric"),
        ("c", "object"),
    ]


def test_names_in_returns_that_stand_twice_are_all_said():
    with pytest.raises(DefinitionError, match=r"returns names a, b more than once"):
        TaskSettings(returns=["a", "b", "c", "b", "a"])


def test_settings_are_handed_on_as_they_are():
    def predicate(error: BaseException) -> bool:
        return False

    settings = TaskSettings(retry_on=predicate, retries=2, timeout=3)
    assert settings.settings()["retry_on"] is predicate
    assert set(settings.settings()) == set(TaskSettings.model_fields)
