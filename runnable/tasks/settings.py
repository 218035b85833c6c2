"""The settings that every task has, declared once for the SDK's steps and the task types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, Strict, field_validator

from runnable.backoff import Backoff
from runnable.catalog import Catalog
from runnable.exceptions import DefinitionError
from runnable.model import Definition
from runnable.parameters import TaskReturns

RetryOn = (
    type[BaseException]
    | tuple[type[BaseException], ...]
    | list[type[BaseException]]
    | Callable[[BaseException], bool]
)


def _named(returns: object) -> object:
    """A plain string in `returns` means a JSON value of that name."""
    if isinstance(returns, str) or not isinstance(returns, Iterable):
        raise DefinitionError(f"returns is {returns!r}; it must be a list of names, as ['data'].")
    return tuple(
        TaskReturns(name=one) if isinstance(one, str) else _declared(one)
        for one in cast("Iterable[object]", returns)
    )


def _declared(one: object) -> TaskReturns:
    if isinstance(one, TaskReturns):
        return one
    if not isinstance(one, Mapping):
        raise DefinitionError(f"returns holds {one!r}; each is a name, or json(name) and its like.")
    try:
        return TaskReturns(**cast("Mapping[str, Any]", one))
    except DefinitionError as error:
        raise ValueError(str(error)) from None  # so that it is said of the step


def _fresh(cache: object) -> object:
    if isinstance(cache, timedelta) and cache <= timedelta(0):
        raise DefinitionError(
            f"cache is {cache!r}, so that nothing would be fresh enough. Give the time for which a "
            f"result counts, as timedelta(hours=1), or True."
        )
    return cache


def _named_overrides(overrides: Mapping[str, str]) -> Mapping[str, str]:
    for executor, override in overrides.items():
        if not executor.strip() or not override.strip():
            raise DefinitionError(
                f"overrides has {executor!r}: {override!r}, and both are names. Give the name of "
                f"an executor, and that of an override in its configuration."
            )
    return dict(overrides)


Cache = Annotated[Annotated[bool, Strict()] | timedelta, AfterValidator(_fresh)]
"""Whether results are kept for later runs, and for how long."""


class TaskSettings(Definition):
    """What a task returns, which secrets it reads, and how often it is tried."""

    returns: Annotated[Sequence[str | TaskReturns], BeforeValidator(_named)] = ()
    """Names for what the function gives back; a plain string means a JSON value."""
    catalog: Catalog | None = None
    """The files that it is given, and those that are kept when it has ended."""
    secrets: Sequence[str] = ()
    """The secrets that its code reads with `runnable.current().secret(name)`."""
    overrides: Annotated[Mapping[str, str], AfterValidator(_named_overrides)] = Field(default={})
    """Executor → the override, named in its configuration, that it uses for this task."""
    retries: int = Field(default=0, ge=0)
    """How often it is tried again after it failed."""
    backoff: Backoff | Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Seconds before it is tried again."""
    retry_on: RetryOn = Exception
    """The errors after which it is tried again: types, or a predicate."""
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Seconds that one attempt may take."""
    on_interrupted: Literal["rerun", "fail"] = "rerun"
    """What a resume does with it if it was running when its process died: "fail" does not run it
    again, and makes it a failure of the type `Interrupted`."""
    cache: Cache = False
    """Whether an earlier result of the same code and inputs stands in for running it; a
    `timedelta`: one that is no older."""

    @field_validator("returns")
    @classmethod
    def _each_name_once(cls, returns: Sequence[TaskReturns]) -> Sequence[TaskReturns]:
        names = [declared.name for declared in returns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DefinitionError(f"returns names {', '.join(twice)} more than once.")
        return returns

    @cached_property
    def declared(self) -> Sequence[TaskReturns]:
        """What `returns` says, each with its kind."""
        return cast("Sequence[TaskReturns]", self.returns)

    def retryable(self, error: BaseException) -> bool:
        """Whether the task is tried again after that error."""
        wanted: Any = self.retry_on
        if isinstance(wanted, type | tuple | list):
            kinds = (wanted,) if isinstance(wanted, type) else tuple(cast("list[type]", wanted))
            return isinstance(error, kinds)
        return bool(wanted(error))

    def settings(self) -> dict[str, Any]:
        """Field → value, shared and not copied."""
        return {name: getattr(self, name) for name in TaskSettings.model_fields}
