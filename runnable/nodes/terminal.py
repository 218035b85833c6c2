"""The two ends of a pipeline."""

from __future__ import annotations

from typing import ClassVar

from runnable.graph import FAIL, SUCCESS, BaseNode, Outcome, Walker
from runnable.scope import Scope


class FailedByPlanError(Exception):
    """The pipeline reached its `fail` end, as a step with `terminate_with_failure` asks for."""


class SuccessNode(BaseNode):
    """The end of a pipeline that succeeded."""

    node_type: ClassVar[str] = "success"
    is_end: ClassVar[bool] = True

    def __init__(self, name: str = SUCCESS) -> None:
        super().__init__(name)

    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """Nothing is left to do."""
        return Outcome()


class FailNode(BaseNode):
    """The end of a pipeline that failed."""

    node_type: ClassVar[str] = "fail"
    is_end: ClassVar[bool] = True

    def __init__(self, name: str = FAIL) -> None:
        super().__init__(name)

    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """The pipeline fails, as it was built to."""
        error = FailedByPlanError("the pipeline ends in failure here, as it was built to")
        return Outcome(error=error, path=scope.path)
