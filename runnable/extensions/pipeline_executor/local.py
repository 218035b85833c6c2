"""The executor behind `Pipeline.execute()`: everything in this process, sync functions inline."""

from typing import ClassVar

from runnable.extensions.pipeline_executor import GenericPipelineExecutor


class LocalExecutor(GenericPipelineExecutor):
    """Runs sync functions on the caller's own thread, where a debugger works.

    A function with a timeout, or in a concurrent branch, runs on a worker thread.
    """

    service_name: ClassVar[str] = "local"
    inline: ClassVar[bool] = True
