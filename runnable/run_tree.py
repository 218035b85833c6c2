"""The steps of a run as a tree: composites above what ran in them, each with when it ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

from runnable import defaults
from runnable.defaults import Status
from runnable.runlog import RunLog
from runnable.steplog import StepAttempt, StepLog

_WORST: Final[tuple[Status, ...]] = (
    defaults.RUNNING,
    defaults.INTERRUPTED,
    defaults.FAIL,
    defaults.CANCELLED,
)
"""What the status of a group is, if one in it has it; the first counts."""


class Spell(NamedTuple):
    """One attempt in time.

    Args:
        start: Seconds since the epoch.
        end: The same, not before `start`; of one that runs, now.
        status: How it ended, or that it runs.
        attempt: Its number.
    """

    start: float
    end: float
    status: Status
    attempt: int


@dataclass(slots=True)
class Node:
    """A step, or a branch, an item of a map, an iteration of a loop, with what is in it."""

    path: str
    label: str
    """What of the path its parent does not have."""
    depth: int
    step: StepLog | None = None
    status: Status = defaults.RUNNING
    spells: list[Spell] = field(default_factory=list[Spell])
    """Its attempts in order; of a group, one from its first beginning to its last end."""
    children: list[Node] = field(default_factory=list["Node"])

    @property
    def is_group(self) -> bool:
        """Whether it is what runs in it; a task with an `on_failure` holds others and is none."""
        return bool(self.children) and (self.step is None or self.step.is_composite)

    @property
    def start(self) -> float | None:
        """When it began, in seconds since the epoch; None if nobody knows."""
        return min((spell.start for spell in self.spells), default=None)

    @property
    def end(self) -> float | None:
        """When it ended."""
        return max((spell.end for spell in self.spells), default=None)

    def walk(self) -> Iterator[Node]:
        """It, and all below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(slots=True)
class Tree:
    """All steps of a run.

    Args:
        roots: The pipeline's own steps, in the order in which they began.
        start: When the run began, in seconds since the epoch.
        end: When it ended; of one that runs, now; of an interrupted one, when it was last heard of.
    """

    roots: list[Node]
    start: float
    end: float

    def walk(self) -> Iterator[Node]:
        """All nodes: each before those that are in it."""
        for root in self.roots:
            yield from root.walk()


def run_tree(log: RunLog, now: datetime) -> Tree:
    """The steps of a run as a tree.

    Where each item of a map, iteration of a loop or branch holds one step alone, it is one node
    with that.

    Args:
        log: The run log.
        now: Up to when what runs is drawn.

    Example:
        >>> from runnable import Map, Pipeline, Stub
        >>> branch = Pipeline(steps=[Stub(name="fetch")])
        >>> pages = Map(name="pages", branch=branch, iterate_on="urls", iterate_as="url")
        >>> run = Pipeline(steps=[pages]).execute({"urls": ["/a", "/b"]})
        >>> [(node.depth, node.label) for node in run_tree(run, datetime.now()).walk()]
        [(0, 'pages'), (1, '0.fetch'), (1, '1.fetch')]
    """
    until = _until(log, now)
    nodes: dict[str, Node] = {}
    roots: list[Node] = []
    for path in _paths(log):
        _place(path, nodes, roots)
    for path, step in log.steps.items():
        nodes[path].step = step
        nodes[path].spells = list(_spells(step, until))
    for root in roots:
        _join(root)
        _settle(root, log, 0)
    begun = min((root.start for root in roots if root.start is not None), default=until)
    start = begun if log.start_time is None else log.start_time.timestamp()
    return Tree(roots, start, max(start, until))


def _paths(log: RunLog) -> list[str]:
    """All paths of steps and branches, in the order in which something was first told of them."""
    steps = [*log.steps]
    known = {*steps}
    # A branch in which nothing has begun yet is told of by its own record alone.
    return steps + [path for path in log.branches if path not in known]


def _place(path: str, nodes: dict[str, Node], roots: list[Node]) -> None:
    parts = path.split(".")
    above: Node | None = None
    for end in range(1, len(parts) + 1):
        here = ".".join(parts[:end])
        node = nodes.get(here)
        if node is None:
            node = nodes[here] = Node(here, parts[end - 1], end - 1)
            (roots if above is None else above.children).append(node)
        above = node


def _join(node: Node) -> None:
    """Make branches one with their steps, if each of the branches beside each other has one."""
    branches = node.children
    if branches and all(_is_branch(one) and len(one.children) == 1 for one in branches):
        node.children = [one.children[0] for one in branches]
        for branch, step in zip(branches, node.children, strict=True):
            step.label = f"{branch.label}.{step.label}"
    for child in node.children:
        _join(child)


def _is_branch(node: Node) -> bool:
    return node.path.count(".") % 2 == 1


def _settle(node: Node, log: RunLog, depth: int) -> None:
    """Say how deep a node stands, how it stands, and when what is below it was."""
    node.depth = depth
    for child in node.children:
        _settle(child, log, depth + 1)
    node.status = _status(node, log)
    if node.children and not node.spells:
        starts = [child.start for child in node.children if child.start is not None]
        ends = [child.end for child in node.children if child.end is not None]
        if starts and ends:
            node.spells = [Spell(min(starts), max(ends), node.status, 1)]


def _status(node: Node, log: RunLog) -> Status:
    if node.step is not None:
        return node.step.status
    if node.path in log.branches:
        return log.branches[node.path]
    if not _is_branch(node):  # a composite is told of when it has ended
        return log.status
    statuses = {child.status for child in node.children}
    for status in _WORST:
        if status in statuses:
            return status
    return defaults.SUCCESS


def _until(log: RunLog, now: datetime) -> float:
    if log.status == defaults.RUNNING:
        return now.timestamp()
    if log.end_time is not None:
        return log.end_time.timestamp()
    heard = [
        time.timestamp()
        for step in log.steps.values()
        for attempt in step.attempts
        for time in (attempt.start_time, attempt.end_time)
        if time is not None
    ]
    begun = [] if log.start_time is None else [log.start_time.timestamp()]
    return max(heard + begun, default=now.timestamp())


def _spells(step: StepLog, until: float) -> Iterator[Spell]:
    for attempt in step.attempts:
        start = _start(attempt)
        if start is not None:
            end = until if attempt.end_time is None else attempt.end_time.timestamp()
            yield Spell(start, max(start, end), attempt.status, attempt.attempt)


def _start(attempt: StepAttempt) -> float | None:
    time = attempt.start_time or attempt.end_time
    return None if time is None else time.timestamp()


MAX_ROWS: Final = 200
"""Rows that people are shown of a run, unless they ask for all."""


class Rest(NamedTuple):
    """Nodes of one parent that are not shown one by one.

    Args:
        depth: How deep they stand.
        text: How many there are, and how they stand.
        nodes: They themselves.
    """

    depth: int
    text: str
    nodes: Sequence[Node]


def shown_rows(tree: Tree, limit: int | None) -> list[Node | Rest]:
    """The nodes of a tree in order; past a limit, what is least worth a row is summed up.

    What runs or did not succeed is kept first, then what took longest; a node is kept with all that
    it stands in, and what is left out of one parent is one row more.

    Args:
        tree: The steps.
        limit: How many nodes are kept, at most; None for all.
    """
    nodes = list(tree.walk())
    if limit is None or len(nodes) <= limit:
        return list(nodes)
    above = {child.path: node for node in nodes for child in node.children}
    kept: set[str] = set()
    for node in sorted(nodes, key=_worth):
        line = [node]
        while (parent := above.get(line[-1].path)) is not None and parent.path not in kept:
            line.append(parent)
        if len(kept) + len(line) <= limit:
            kept.update(each.path for each in line)
        if len(kept) == limit:
            break
    return list(_with_rests(tree.roots, kept))


def _worth(node: Node) -> tuple[bool, float]:
    took = sum(spell.end - spell.start for spell in node.spells)
    return node.status == defaults.SUCCESS, -took


def _with_rests(siblings: Sequence[Node], kept: Set[str]) -> Iterator[Node | Rest]:
    left = [node for node in siblings if node.path not in kept]
    for node in siblings:
        if node.path in kept:
            yield node
            yield from _with_rests(node.children, kept)
    if left:
        times = Counter(node.status for node in left)
        told = ", ".join(f"{count:,} {status}" for status, count in times.items())
        yield Rest(left[0].depth, f"… {len(left):,} more: {told}", left)
