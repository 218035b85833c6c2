"""The kinds of steps that a graph is made of."""

from runnable.graph import BaseNode
from runnable.nodes.task import StubNode, TaskNode
from runnable.nodes.terminal import FailNode, SuccessNode

__all__ = ["BaseNode", "FailNode", "StubNode", "SuccessNode", "TaskNode"]
