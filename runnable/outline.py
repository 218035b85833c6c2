"""What there is to draw of a graph: boxes, frames and arrows, and the states of a run.

It is made of the structure as JSON holds it, so that a pipeline and a stored run are drawn by the
same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from runnable.defaults import CANCELLED, FAIL, INTERRUPTED, ON_FAILURE, RUNNING, SUCCESS

MAX_LABEL: Final = 60
"""Characters of a name in a picture."""
WAITING: Final = "waiting"
EACH: Final = "*"
"""The branch of a map or a loop, which stands for one per item or iteration."""
WORST_FIRST: Final = (FAIL, INTERRUPTED, CANCELLED, RUNNING, SUCCESS)

Structure = Mapping[str, Any]
"""`{"start_at": name, "steps": {name: {"type": …, "next": …, "branches": {…}}}}`."""
Branches = Mapping[str, Structure]
Shape = Literal["task", "stub", "end", "choice"]


@dataclass(slots=True, eq=False)
class Box:
    """One thing that has no others inside it."""

    id: str
    lines: list[str]
    shape: Shape
    state: str = ""

    @property
    def first(self) -> str:
        return self.id

    @property
    def last(self) -> str:
        return self.id


@dataclass(slots=True, eq=False)
class Frame:
    """What stands around others: a composite, one of its branches, what runs after a failure."""

    id: str
    lines: list[str]
    state: str = ""
    aside: bool = False
    """It is entered by a failure alone."""
    parts: list[Part] = field(default_factory=list["Part"])
    firsts: list[Part] = field(default_factory=list["Part"])
    """By which it is entered."""
    lasts: list[Part] = field(default_factory=list["Part"])
    """By which it is left."""

    def join(self, within: _Within | None) -> None:
        """Say that what is within runs beside, or instead of, what else is in it."""
        if within is not None:
            self.firsts.append(within.first)
            self.lasts += [within.last] * within.goes_on

    @property
    def forks(self) -> bool:
        """Whether it has no one beginning."""
        return len(self.firsts) != 1

    @property
    def joins(self) -> bool:
        """Whether it has no one end."""
        return len(self.lasts) != 1

    # Arrows join boxes alone: DOT knows no others, and Mermaid fails on some that join frames.

    @property
    def first(self) -> str:
        """The id of the box, or of the fork, by which it is entered."""
        return f"{self.id}_in" if self.forks else self.firsts[0].first

    @property
    def last(self) -> str:
        """The id of the box, or of the join, by which it is left."""
        return f"{self.id}_out" if self.joins else self.lasts[0].last


Part = Box | Frame


@dataclass(frozen=True, slots=True)
class Edge:
    tail: Part
    head: Part
    label: str = ""
    dashed: bool = False


class _Ends:
    """The ends of a graph, drawn where something leads to them.

    That of success is not drawn inside a composite, where going on is the rule.
    """

    def __init__(self, outline: Outline, into: list[Part], shown: tuple[str, ...]) -> None:
        self.outline, self.into, self.shown = outline, into, shown
        self._drawn: dict[str, Part] = {}

    def get(self, name: str) -> Part | None:
        if name in self._drawn or name not in self.shown:
            return self._drawn.get(name)
        end = self._drawn[name] = self.outline.box([name], "end")
        self.into.append(end)
        return end


class _Within(NamedTuple):
    """The first and the last step of a graph, and whether that leads on."""

    first: Part
    last: Part
    goes_on: bool


class Outline:
    """What there is to draw of a graph.

    Args:
        structure: The graph's.
        states: Path of a step in a run → its status; None if no states are to be drawn.
    """

    def __init__(self, structure: Structure, states: Mapping[str, str] | None = None) -> None:
        self.count = 0
        self.states = None if states is None else _counted(structure, states)
        self.parts: list[Part] = []
        self.edges: list[Edge] = []
        self._graph(structure, "", self.parts, _Ends(self, self.parts, (SUCCESS, FAIL)))

    def box(self, lines: list[str], shape: Shape) -> Box:
        return Box(self._id(), lines, shape)

    def frame(self, lines: list[str], *, aside: bool = False) -> Frame:
        return Frame(self._id(), lines, aside=aside)

    def _id(self) -> str:
        self.count += 1
        return f"n{self.count - 1}"

    def _graph(self, graph: Structure, path: str, into: list[Part], ends: _Ends) -> _Within | None:
        """Draw the steps of a graph; gives the first and the last of them."""
        steps: Mapping[str, Any] = graph.get("steps", {})
        drawn: dict[str, Part] = {}
        for name in _in_order(graph):
            drawn[name] = self._step(name, steps[name], path + name)
            into.append(drawn[name])
        if not drawn:  # it is nothing but an end
            only: str = graph.get("start_at", "")
            end = _Ends(self, into, (SUCCESS, FAIL)).get(only)
            return end and _Within(end, end, only == SUCCESS)
        for name, part in drawn.items():
            follows: str = steps[name].get("next", "")
            head = drawn.get(follows) or ends.get(follows)
            if head is not None:
                self.edges.append(Edge(part, head))
            mending = steps[name].get("branches", {}).get(ON_FAILURE)
            if mending is not None:
                self._aside(name, part, mending, f"{path}{name}.{ON_FAILURE}.", into, ends)
        names = list(drawn)
        goes_on = steps[names[-1]].get("next") != FAIL
        return _Within(drawn[names[0]], drawn[names[-1]], goes_on)

    def _aside(
        self, name: str, part: Part, graph: Structure, path: str, into: list[Part], ends: _Ends
    ) -> None:
        """What runs when a step fails, in place of all that follows it: so its ends are theirs."""
        frame = self.frame([f"if {_named(name)} fails"], aside=True)
        within = self._graph(graph, path, frame.parts, ends)
        if within is not None:
            frame.firsts, frame.lasts = [within.first], [within.last]
            into.append(frame)
            self.edges.append(Edge(part, frame, dashed=True))

    def _step(self, name: str, step: Structure, path: str) -> Part:
        branches = {
            branch: graph
            for branch, graph in step.get("branches", {}).items()
            if branch != ON_FAILURE and (graph.get("steps") or graph.get("start_at"))
        }
        kind: str = step.get("type", "")
        if not branches:
            part = self.box([_named(name)], "stub" if kind == "stub" else "task")
        elif kind == "conditional":
            part = self._conditional(name, step, branches, path)
        elif kind in ("map", "loop"):
            part = self._repeated(name, step, branches, path)
        else:
            part = self._parallel(name, branches, path)
        self._mark(part, path)
        return part

    def _branch(self, frame: Frame, graph: Structure, path: str) -> _Within | None:
        """Draw a branch into a frame."""
        return self._graph(graph, path, frame.parts, _Ends(self, frame.parts, (FAIL,)))

    def _repeated(self, name: str, step: Structure, branches: Branches, path: str) -> Frame:
        frame = self.frame([_named(name), _repeats(step)])
        for branch, graph in branches.items():
            frame.join(self._branch(frame, graph, f"{path}.{branch}."))
        return frame

    def _parallel(self, name: str, branches: Branches, path: str) -> Frame:
        frame = self.frame([_named(name)])
        for branch, graph in branches.items():
            inner = self.frame([_named(branch)])
            within = self._branch(inner, graph, f"{path}.{branch}.")
            inner.join(within)
            if within is not None:
                frame.parts.append(inner)
                frame.join(_Within(inner, inner, within.goes_on))
        return frame

    def _conditional(self, name: str, step: Structure, branches: Branches, path: str) -> Frame:
        frame = self.frame([_named(name)])
        choice = self.box([_named(step.get("parameter", ""))], "choice")
        frame.parts.append(choice)
        for branch, graph in branches.items():
            within = self._branch(frame, graph, f"{path}.{branch}.")
            frame.join(within)
            if within is not None:
                self.edges.append(Edge(choice, within.first, _named(branch)))
        frame.firsts = [choice]
        return frame

    def _mark(self, part: Part, path: str) -> None:
        """Say what became of a step: of a step that ran often, how often each."""
        if self.states is None:
            return
        times = self.states.get(path, Counter())
        often = EACH in path.split(".")[1::2]
        words = [f"{times[word]:,} {word}" if often else word for word in _worst_first(times)]
        if words:
            part.lines.append(", ".join(words))
        part.state = next(iter(_worst_first(times)), WAITING)


def _in_order(graph: Structure) -> list[str]:
    """The names of a graph's steps: from the first on, then those that nothing leads to."""
    steps, order = graph.get("steps", {}), dict[str, None]()
    name = graph.get("start_at", "")
    while name in steps and name not in order:
        order[name] = None
        name = steps[name].get("next", "")
    return list(order | dict.fromkeys(steps))


def _named(name: str) -> str:
    return name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 1]}…"


def _repeats(step: Structure) -> str:
    """What a map or a loop does with its branch."""
    if step.get("type") == "loop":
        most = step.get("max_iterations")
        until = f"until {_named(step.get('break_on', ''))}"
        return f"loop: {until}" if most is None else f"loop: {until}, at most {most:,}"
    return f"map: {_named(step.get('iterate_as', ''))} in {_named(step.get('iterate_on', ''))}"


def _counted(structure: Structure, states: Mapping[str, str]) -> dict[str, Counter[str]]:
    """Path of a step in the structure → how often it has each status."""
    counted: dict[str, Counter[str]] = {}
    for path, status in states.items():
        found = _static(structure, path.split("."))
        if found:
            counted.setdefault(found, Counter())[status] += 1
    return counted


def _static(graph: Structure, path: list[str]) -> str:
    """The path in the structure of what has that path in a run; empty if there is no such step."""
    found: list[str] = []
    for at in range(0, len(path), 2):
        step = graph.get("steps", {}).get(path[at])
        if step is None:
            return ""
        found.append(path[at])
        if at + 1 < len(path):
            branches = step.get("branches", {})
            branch = path[at + 1] if path[at + 1] in branches else EACH
            graph = branches.get(branch, {})
            found.append(branch)
    return ".".join(found) if len(path) % 2 else ""


def _worst_first(times: Counter[str]) -> list[str]:
    """The statuses that a step has, those of this version first."""
    known = [status for status in WORST_FIRST if status in times]
    return known + sorted(status for status in times if status not in WORST_FIRST)


def walk(parts: list[Part]) -> Iterator[Part]:
    for part in parts:
        yield part
        if isinstance(part, Frame):
            yield from walk(part.parts)
