"""The kinds of steps that a graph is made of."""

from runnable.graph import BaseNode
from runnable.nodes.branches import OnError
from runnable.nodes.composite import EACH, CompositeNode
from runnable.nodes.conditional import ConditionalNode
from runnable.nodes.loop import LoopNode
from runnable.nodes.map import MapNode
from runnable.nodes.parallel import ParallelNode
from runnable.nodes.task import StubNode, TaskNode
from runnable.nodes.terminal import FailNode, SuccessNode

__all__ = [
    "EACH",
    "BaseNode",
    "CompositeNode",
    "ConditionalNode",
    "FailNode",
    "LoopNode",
    "MapNode",
    "OnError",
    "ParallelNode",
    "StubNode",
    "SuccessNode",
    "TaskNode",
]
