"""How one attempt of a task ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from runnable.parameters import Parameter
from runnable.steplog import DataCatalog


class Attempt(NamedTuple):
    """How one attempt ended; without an error it succeeded."""

    outputs: dict[str, Parameter]
    metrics: tuple[str, ...] = ()
    inputs: Mapping[str, Any] | None = None
    error: BaseException | None = None
    will_retry: bool = False
    duration: float = 0.0
    files: tuple[DataCatalog, ...] = ()
