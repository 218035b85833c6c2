"""What must come of a nested pipeline: a plain, synchronous evaluation of its description.

It knows nothing of the product. What the order of events decides – which of several branches fails
first, and how far the siblings came that were cancelled – is left open, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from tests.trust.nested import (
    INITIAL,
    Conditional,
    Loop,
    Map,
    Parallel,
    Plan,
    Step,
    Task,
    fails,
    seed_of,
    sets_of,
    value_of,
)

Reduce = Callable[[str, list[object]], object]


class Value(NamedTuple):
    """A parameter: how it travels, and what it is."""

    kind: str
    value: object


Values = dict[str, Value]


@dataclass(frozen=True)
class Failure:
    """A pipeline failed.

    Args:
        first: The paths one of which has failed first.
        must: Those that fail whatever the order is.
        may: Those that may fail.
    """

    first: frozenset[str]
    must: frozenset[str]
    may: frozenset[str]

    @classmethod
    def at(cls, path: str) -> Failure:
        """At one path, for certain."""
        here = frozenset({path})
        return cls(here, here, here)


@dataclass
class Paths:
    """What becomes of the steps."""

    certain: dict[str, str] = field(default_factory=dict[str, str])
    """Path → its status at the end."""
    open: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """Path → what its status may be, if it began at all."""

    def add(self, other: Paths, *, certain: bool) -> None:
        """Take over those of a branch."""
        for path, statuses in other.open.items():
            self.may_be(path, *statuses)
        if certain:
            self.certain.update(other.certain)
        else:
            for path, status in other.certain.items():
                self.may_be(path, status)

    def may_be(self, path: str, *statuses: str) -> None:
        """A step may end like that, if it is cancelled or comes so far."""
        self.open.setdefault(path, {"cancelled", "interrupted"}).update(statuses)


class Branch(NamedTuple):
    """What came of a branch."""

    sets: Values
    failure: Failure | None
    paths: Paths


@dataclass
class Reference:
    """What must come of a run."""

    parameters: Values
    metrics: dict[str, object]
    failure: Failure | None
    paths: Paths

    @property
    def status(self) -> str:
        """That of the run."""
        return "success" if self.failure is None else "fail"


class _View:
    """The parameters of a pipeline: those around it, and what it has set."""

    def __init__(self, around: Mapping[str, Value]) -> None:
        self.around = around
        self.own: Values = {}

    def all(self) -> Values:
        return {**self.around, **self.own}


class Evaluation:
    """Evaluates a plan.

    Args:
        reduce: What a reducer of that key makes of values.
    """

    def __init__(self, reduce: Reduce) -> None:
        self._reduce = reduce
        self._metrics: dict[str, object] = {}

    def run(self, plan: Plan) -> Reference:
        """What must come of it."""
        view, paths = (
            _View({name: Value("json", value) for name, value in INITIAL.items()}),
            Paths(),
        )
        failure = self._walk(plan, view, {}, "", paths, is_outer=True)
        return Reference(view.all(), self._metrics, failure, paths)

    def _walk(
        self,
        plan: Plan,
        view: _View,
        variables: Values,
        path: str,
        paths: Paths,
        *,
        is_outer: bool = False,
    ) -> Failure | None:
        for step in plan.steps:
            here = f"{path}.{step.name}" if path else step.name
            sets, failure = self._step(step, view.all(), variables, here, paths)
            paths.certain[here] = "success" if failure is None else "fail"
            if failure is not None:
                if step.on_failure is None:
                    return failure
                after = f"{here}.on_failure"
                return self._walk(step.on_failure, view, variables, after, paths, is_outer=is_outer)
            view.own.update(sets)
            if is_outer:
                self._metrics.update(
                    {name: one.value for name, one in sets.items() if one.kind == "metric"}
                )
            if isinstance(step, Task) and step.end:
                return None if step.end == "success" else Failure.at(here)
        return None

    def _step(
        self, step: Step, known: Values, variables: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        match step:
            case Task():
                return self._task(step, {**known, **variables}, path, paths)
            case Parallel():
                return self._parallel(step, known, variables, path, paths)
            case Map():
                return self._map(step, known, variables, path, paths)
            case Loop():
                return self._loop(step, known, variables, path, paths)
            case Conditional():
                return self._conditional(step, known, variables, path, paths)

    def _task(
        self, task: Task, known: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        seed = seed_of(task, {name: one.value for name, one in known.items()})
        if task.flaky:  # where it is cancelled before its last attempt, that is how it stays
            paths.may_be(path, "fail")
        if task.sort != "stub" and fails(task, seed):
            return {}, Failure.at(path)
        values = enumerate(task.gives)
        return {one.name: Value(one.kind, value_of(task, at, seed)) for at, one in values}, None

    def _branch(self, plan: Plan, known: Values, variables: Values, path: str) -> Branch:
        view, paths = _View(known), Paths()
        failure = self._walk(plan, view, variables, path, paths)
        return Branch(view.own, failure, paths)

    def _parallel(
        self, step: Parallel, known: Values, variables: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        made = (
            (name, self._branch(plan, known, variables, f"{path}.{name}"))
            for name, plan in step.branches.items()
        )
        limit = min(step.limit or 1_000, len(step.branches))
        stops = step.on_error == "cancel"
        branches: list[Branch] = []
        for _, branch in made:
            branches.append(branch)
            if branch.failure is not None and stops and limit == 1:
                break
        failure = _together(branches, limit, stops=stops, paths=paths)
        merged: Values = {}
        for branch in branches:
            merged.update(branch.sets)
        return merged, failure

    def _map(
        self, step: Map, known: Values, variables: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        source = {**known, **variables}[step.iterate_on]
        items = source.value
        if isinstance(items, dict):
            items = [[*pair] for pair in cast("Mapping[str, object]", items).items()]
        if not isinstance(items, list | tuple):
            return {}, Failure.at(path)
        items = cast("Sequence[object]", items)
        kind = "object" if source.kind == "object" else "json"
        limit = min(step.limit or 1_000, len(items) or 1)
        stops = step.on_error == "cancel"
        branches: list[Branch] = []
        for index, item in enumerate(items):
            inside = {**variables, step.iterate_as: Value(kind, item)}
            branches.append(self._branch(step.branch, known, inside, f"{path}.{index}"))
            if branches[-1].failure is not None and stops and limit == 1:
                break
        failure = _together(branches, limit, stops=stops, paths=paths)
        if failure is not None:
            return {}, failure
        return self._gathered(step, branches, path)

    def _gathered(
        self, step: Map, branches: Sequence[Branch], path: str
    ) -> tuple[Values, Failure | None]:
        gathered: Values = {}
        for name in sets_of(step.branch):
            column = [branch.sets.get(name) for branch in branches]
            kinds = {one.kind for one in column if one is not None}
            kind = "object" if "object" in kinds else "metric" if kinds == {"metric"} else "json"
            try:
                values = [None if one is None else one.value for one in column]
                gathered[name] = Value(kind, self._reduce(step.reducer, values))
            except Exception:
                return {}, Failure.at(path)
        return gathered, None

    def _loop(
        self, step: Loop, known: Values, variables: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        view = _View(known)
        for turn in range(step.turns):
            index = {step.index_as: Value("json", turn)} if step.index_as else {}
            failure = self._walk(step.branch, view, {**variables, **index}, f"{path}.{turn}", paths)
            if failure is not None:
                return {}, failure
            over = view.own.get(step.break_on)
            if over is None or not isinstance(over.value, bool):
                return {}, Failure.at(path)
            if over.value:
                break
        return view.own, None

    def _conditional(
        self, step: Conditional, known: Values, variables: Values, path: str, paths: Paths
    ) -> tuple[Values, Failure | None]:
        way = {**known, **variables}[step.parameter].value
        names = (str(way), str(way).lower()) if isinstance(way, bool) else (str(way),)
        name = next((name for name in names if name in step.branches), "")
        if not name and step.default is None:
            return {}, Failure.at(path)
        branch = step.branches[name] if name else step.default
        assert branch is not None
        view = _View(known)
        failure = self._walk(branch, view, variables, f"{path}.{name or 'default'}", paths)
        return view.own, failure


def _together(
    branches: Sequence[Branch], limit: int, *, stops: bool, paths: Paths
) -> Failure | None:
    """The failure of branches that ran beside each other, if one failed."""
    failures = [branch.failure for branch in branches if branch.failure is not None]
    is_open = stops and limit > 1 and bool(failures)
    for branch in branches:
        fails_alone = branch.failure is not None and len(failures) == 1
        paths.add(branch.paths, certain=not is_open or fails_alone)
    if not failures:
        return None
    firsts = failures[:1] if limit == 1 else failures
    must = failures if not is_open or len(failures) == 1 else []
    return Failure(
        frozenset[str]().union(*(one.first for one in firsts)),
        frozenset[str]().union(*(one.must for one in must)),
        frozenset[str]().union(*(one.may for one in failures)),
    )
