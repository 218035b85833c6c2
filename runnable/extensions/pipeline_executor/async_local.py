"""The executor behind `AsyncPipeline`: everything in this process, the loop never blocked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn

from runnable.extensions.pipeline_executor import GenericPipelineExecutor

if TYPE_CHECKING:
    from runnable.graph import BaseNode


class AsyncLocalExecutor(GenericPipelineExecutor):
    """Runs sync functions on worker threads, so that the event loop goes on beside them."""

    service_name: ClassVar[str] = "async-local"

    def execute_node(
        self, node: BaseNode, map_variable: Mapping[str, object] | None = None
    ) -> NoReturn:
        """The sync entry, which this executor does not have.

        Raises:
            RuntimeError: Always; it says what to await.
        """
        raise RuntimeError(
            "AsyncLocalExecutor requires async execution. "
            "Use 'await executor.execute_from_graph(node)' or 'await AsyncPipeline.execute()'."
        )
