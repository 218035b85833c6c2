"""What a task step runs: the kinds of tasks, and the settings that all of them share."""

from runnable.attempt import Attempt
from runnable.tasks.base import BaseTaskType
from runnable.tasks.python import AsyncPythonTaskType, PythonTaskType
from runnable.tasks.settings import TaskSettings
from runnable.tasks.shell import ShellTaskType

__all__ = [
    "AsyncPythonTaskType",
    "Attempt",
    "BaseTaskType",
    "PythonTaskType",
    "ShellTaskType",
    "TaskSettings",
]
