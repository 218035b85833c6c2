"""Steps and what follows what: the graph, its nodes, and the checks of its structure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from runnable import defaults
from runnable.exceptions import GraphError, first_line, listed, message_of, nearest

if TYPE_CHECKING:
    from runnable.attempt import Attempt
    from runnable.parameters import Parameter
    from runnable.scope import Scope

SUCCESS: Final = "success"
FAIL: Final = "fail"

_NOTHING: Final[Mapping[str, Parameter]] = {}


class Failure(NamedTuple):
    """A step that failed in a branch."""

    path: str
    error: BaseException

    def __str__(self) -> str:
        return f"{self.path}: {first_line(self.error)}"


class Outcome(NamedTuple):
    """How a node ended: with outputs, or with the error of the step at `path`.

    `failures` are the steps that failed in the branches of a composite, the first one first;
    `error` is then the group of their errors.
    """

    outputs: Mapping[str, Parameter] = _NOTHING
    error: BaseException | None = None
    path: str = ""
    failures: tuple[Failure, ...] = ()

    @property
    def cause(self) -> BaseException | None:
        """The error of the step that failed first."""
        return self.failures[0].error if self.failures else self.error

    @property
    def problem(self) -> str:
        """What the first cause says, and the other failures in a line."""
        if self.cause is None:
            return ""
        others = self.failures[1:]
        more = f"\n(and {len(others):,} more: {listed(map(str, others), '; ')})" if others else ""
        return message_of(self.cause) + more


class Walker(Protocol):
    """What a node may ask of the engine."""

    async def walk(self, graph: Graph, scope: Scope) -> Outcome:
        """Run a graph to its end."""
        ...

    def recall(self, graph: Graph, scope: Scope) -> Mapping[str, Parameter] | None:
        """What an earlier life has set by running the whole graph, or None if it has not."""
        ...

    def place(self, node: Any, scope: Scope) -> Awaitable[Attempt]:
        """Run one attempt of a task, wherever the executor puts it."""
        ...


class BaseNode(ABC):
    """One step of a graph.

    Args:
        name: Unique in its graph.
        next_node: The node that follows; the graph fills it in for a step that ends the pipeline.
        on_failure: What runs when it fails.
        location: `file:line` of what it runs, for messages.
    """

    node_type: ClassVar[str]
    is_end: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        *,
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        self.name = name
        self.next_node = next_node
        self.on_failure = on_failure
        self.location = location

    @abstractmethod
    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """Do the step's work; what happens meanwhile goes to the scope."""

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """The graphs inside it: branch name and graph."""
        if self.on_failure is not None:
            yield defaults.ON_FAILURE, self.on_failure

    def structure(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, as JSON holds it."""
        described: dict[str, Any] = {"type": self.node_type, "next": self.next_node}
        branches = {name: graph.structure for name, graph in self.graphs()}
        return described | ({"branches": branches} if branches else {})

    def sets(self) -> Iterable[str]:
        """The names of the parameters that it may set."""
        return ()

    def count_tasks(self) -> int:
        """How many task steps and stubs it stands for, without those of `on_failure`."""
        return sum(
            graph.total_tasks for name, graph in self.graphs() if name != defaults.ON_FAILURE
        )

    def digest(self) -> str:
        """Tells whether the code it runs has changed; empty if it runs none."""
        return ""

    def secrets(self) -> Iterable[str]:
        """The names of the secrets that its own code reads."""
        return ()

    def pickles(self) -> bool:
        """Whether it returns a pickled value of its own."""
        return False

    def overrides(self) -> Mapping[str, str]:
        """Executor → the override in its configuration that it asks for."""
        return {}

    @property
    def may_be_hindered(self) -> bool:
        """Whether `obstacles` can find anything."""
        return False

    def obstacles(self) -> Iterable[str]:
        """Why it cannot run here and now, a sentence each; may read files, so off the loop."""
        return ()


class Graph:
    """Nodes, and where to start; what is derived from them is worked out once, when asked for.

    Args:
        start_at: The name of the first node.
        name: The pipeline's.
        description: For people.
        max_concurrency: How many tasks run at once in it, those of its branches too.
    """

    def __init__(
        self,
        start_at: str,
        name: str = "",
        description: str = "",
        max_concurrency: int | None = None,
    ) -> None:
        self.start_at = start_at
        self.name = name
        self.description = description
        self.max_concurrency = max_concurrency
        self.nodes: dict[str, BaseNode] = {}

    def add_node(self, node: BaseNode) -> None:
        """Add a node.

        Raises:
            GraphError: If there is one of that name.
        """
        if node.name in self.nodes:
            taken = "A step is named {}, as the pipeline's own end is. Choose another name."
            twice = "Two steps are named {}. Give each step of a pipeline its own name."
            is_end = node.is_end or self.nodes[node.name].is_end
            raise GraphError((taken if is_end else twice).format(repr(node.name)))
        self.nodes[node.name] = node

    def get_node_by_name(self, name: str) -> BaseNode:
        """The node of that name.

        Raises:
            GraphError: If there is none.
        """
        try:
            return self.nodes[name]
        except KeyError:
            raise GraphError(
                f"There is no step {name!r} (there are: {listed(nearest(name, self.nodes))})."
            ) from None

    @property
    def start(self) -> BaseNode:
        """The first node."""
        return self.nodes[self.start_at]

    def after(self, node: BaseNode, outcome: Outcome) -> BaseNode:
        """The node that follows one that ended like that."""
        return self.nodes[FAIL if outcome.error is not None else node.next_node]

    def check_graph(self) -> None:
        """Check the structure.

        Raises:
            GraphError: If the start or an edge's end does not exist, if there is a cycle or a step
                that is never reached, or if an end is missing.
        """
        if self.start_at not in self.nodes:
            raise GraphError(f"The first step {self.start_at!r} does not exist.")
        for end in (SUCCESS, FAIL):
            if end not in self.nodes or not self.nodes[end].is_end:
                raise GraphError(f"The pipeline has no {end!r} end.")
        for node in self.nodes.values():
            if not node.is_end and node.next_node not in self.nodes:
                known = listed(nearest(node.next_node, self.nodes))
                raise GraphError(
                    f"Step {node.name!r} is followed by {node.next_node!r}, which does not exist "
                    f"(there are: {known})."
                )
        self._check_way()

    def _check_way(self) -> None:
        node, seen = self.start, dict[str, None]()
        while not node.is_end:
            if node.name in seen:
                way = [*list(seen)[list(seen).index(node.name) :], node.name]
                raise GraphError(
                    f"The steps go round in a circle: {listed(way, ' → ')}. Let one of them end "
                    f"the pipeline, or use a Loop."
                )
            seen[node.name] = None
            node = self.nodes[node.next_node]
        lost = [n.name for n in self.nodes.values() if not n.is_end and n.name not in seen]
        if lost:
            raise GraphError(
                f"No step leads to {listed(map(repr, lost))}. Link it with >>, or remove it."
            )

    def check_depth(self) -> None:
        """Check that no step stands deeper than a path may be.

        Raises:
            GraphError: If one does.
        """
        if self.depth > defaults.MAX_PATH_DEPTH:
            raise GraphError(
                f"A step of the pipeline stands {self.depth} segments deep, deeper than the "
                f"{defaults.MAX_PATH_DEPTH} allowed. Nest the pipelines less."
            )

    @cached_property
    def depth(self) -> int:
        """How many segments the longest path of a step has."""
        inner = [g.depth + 2 for node in self.nodes.values() for _, g in node.graphs()]
        return max(inner, default=1)

    def walk_order(self) -> Iterator[BaseNode]:
        """The nodes from the first on, in the order in which they run if none fails."""
        node = self.start
        while not node.is_end:
            yield node
            node = self.nodes[node.next_node]

    def all_nodes(self, path: str = "") -> Iterator[tuple[str, BaseNode]]:
        """Every node of this graph and of those inside it, with its path."""
        for node in self.nodes.values():
            if node.is_end:
                continue
            here = f"{path}.{node.name}" if path else node.name
            yield here, node
            for branch, graph in node.graphs():
                yield from graph.all_nodes(f"{here}.{branch}")

    @cached_property
    def structure(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, as JSON holds it."""
        steps = {n.name: n.structure() for n in self.nodes.values() if not n.is_end}
        return {"start_at": self.start_at, "steps": steps}

    @cached_property
    def sets(self) -> tuple[str, ...]:
        """The names of the parameters that its steps may set, those of `on_failure` too."""
        found: dict[str, None] = {}
        for node in self.nodes.values():
            found.update(dict.fromkeys(node.sets()))
            if node.on_failure is not None:
                found.update(dict.fromkeys(node.on_failure.sets))
        return tuple(found)

    @cached_property
    def total_tasks(self) -> int:
        """How many task steps and stubs there are, nested ones too, each once."""
        return sum(node.count_tasks() for node in self.nodes.values())

    @cached_property
    def digests(self) -> dict[str, str]:
        """Path → digest of the code that runs there."""
        found = {path: node.digest() for path, node in self.all_nodes()}
        return {path: digest for path, digest in found.items() if digest}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Name of each secret that a step reads → path of the first such step."""
        found: dict[str, str] = {}
        for path, node in self.all_nodes():
            for name in node.secrets():
                found.setdefault(name, path)
        return found

    @cached_property
    def pickles(self) -> bool:
        """Whether a step returns a pickled value."""
        return any(node.pickles() for _, node in self.all_nodes())

    @cached_property
    def overrides(self) -> dict[str, Mapping[str, str]]:
        """Path → executor → override, of the steps that ask for one."""
        asked = {path: node.overrides() for path, node in self.all_nodes()}
        return {path: overrides for path, overrides in asked.items() if overrides}

    @cached_property
    def hindered(self) -> dict[str, BaseNode]:
        """Path → node, of those that may be hindered."""
        return {path: node for path, node in self.all_nodes() if node.may_be_hindered}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[str]:
    """What differs between two structures, a phrase each; empty if nothing does.

    Example:
        >>> changes({"start_at": "a", "steps": {"a": {}}}, {"start_at": "a", "steps": {}})
        ["step 'a' is gone"]
    """
    if before == after:
        return []
    found: list[str] = []
    old, new = before.get("steps", {}), after.get("steps", {})
    found += [f"step {path + name!r} is gone" for name in old if name not in new]
    found += [f"step {path + name!r} is new" for name in new if name not in old]
    for name in old:
        if name in new:
            found += _step_changes(old[name], new[name], path + name)
    if not found and before.get("start_at") != after.get("start_at"):
        found.append(f"it starts at {after.get('start_at')!r}, not at {before.get('start_at')!r}")
    return found


def _step_changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> list[str]:
    found = [
        f"{key} of step {path!r} was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted((set(old) | set(new)) - {"branches"})
        if old.get(key) != new.get(key)
    ]
    branches, others = old.get("branches", {}), new.get("branches", {})
    for branch in sorted(set(branches) | set(others)):
        if branch not in others:
            found.append(f"branch {path}.{branch} is gone")
        elif branch not in branches:
            found.append(f"branch {path}.{branch} is new")
        else:
            found += changes(branches[branch], others[branch], f"{path}.{branch}.")
    return found
