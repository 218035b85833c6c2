"""What the steps that hold branches have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from pydantic_core import to_json

from runnable import defaults
from runnable.failing import cut, show_users_own
from runnable.graph import BaseNode, Failure, Graph, Outcome, Walker
from runnable.outputs import Told, told
from runnable.parameters import Parameter
from runnable.scope import Scope

EACH: Final = "*"
"""Stands for the index in the path of a step of a map or a loop, before there is one."""

_NONE: Final = Told(b"{}", b"{}", (), None)


class CompositeNode(BaseNode):
    """A step that holds branches: it ends with one record, of the values they come to."""

    async def execute(self, scope: Scope, walker: Walker) -> Outcome:
        """Run the branches, and say what they came to."""
        clock = scope.run.clock
        began = clock.monotonic()
        outcome = await self.run(scope, walker)
        shown = _NONE
        if outcome.error is None:
            try:
                shown = await told(outcome.outputs, scope, has_metrics=False)
            except Exception as error:
                outcome = failed(error, scope)
        self._record(scope, outcome, shown, clock.elapsed(began))
        if outcome.error is None and (ledger := scope.run.ledger) is not None:
            ledger.close(scope.path, in_turn=self.node_type == "loop")
        return outcome

    @abstractmethod
    async def run(self, scope: Scope, walker: Walker) -> Outcome:
        """Run the branches; what they set, as the composite hands it on."""

    def _record(self, scope: Scope, outcome: Outcome, shown: Told, duration: float) -> None:
        status, values = defaults.SUCCESS, b"null"
        if outcome.error is not None:
            masker = scope.run.masker
            status, problem = defaults.FAIL, outcome.problem
            if outcome.failures:
                problem = f"{outcome.path}: {problem}"
            problem = cut(masker.mask(problem) if masker else problem, defaults.MAX_ERROR_BYTES)
            kind = to_json(type(outcome.cause).__name__)
            values = b'{"outputs":{},"error":%b,"error_type":%b}' % (to_json(problem), kind)
        elif shown.whole is not None:
            values = b'{"outputs":%b}' % shown.whole
        facts = b',"task_name":%b,"path":%b,"status":%b,"outputs":%b,"duration":%b' % (
            to_json(self.name),
            to_json(scope.path),
            to_json(status),
            shown.shown,
            to_json(duration),
        )
        scope.run.sink.record("composite_completed", facts, values)

    async def walk_branch(self, name: str, graph: Graph, inner: Scope, walker: Walker) -> Outcome:
        """Walk a branch that has a name, between the two events that tell of it."""
        inner.branch_started(name)
        status = defaults.CANCELLED
        try:
            outcome = await walker.walk(graph, inner)
            status = defaults.SUCCESS if outcome.error is None else defaults.FAIL
        finally:
            if status != defaults.CANCELLED or not inner.run.cancelled:
                inner.branch_completed(name, status)
        return outcome


def failed(error: BaseException, scope: Scope) -> Outcome:
    """The outcome of a composite that failed by itself, and not in a branch."""
    show_users_own(error)
    if scope.run.masker:
        scope.run.masker.mask_exception(error)
    return Outcome(error=error, path=scope.path)


def together(scope: Scope, outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a composite, branches of which failed.

    Args:
        scope: The composite's.
        outcomes: Those of the branches that failed, the first one first; at least one.
    """
    errors: list[BaseException] = []
    failures: list[Failure] = []
    for outcome in outcomes:
        assert outcome.error is not None
        errors.append(outcome.error)
        if outcome.failures:
            failures += outcome.failures
        else:
            _note(outcome.error, outcome.path)
            failures.append(Failure(outcome.path, outcome.error))
    count = "one branch" if len(errors) == 1 else f"{len(errors):,} branches"
    group = BaseExceptionGroup(f"{count} of step {scope.path!r} failed", errors)
    return Outcome(error=group, path=failures[0].path, failures=tuple(failures))


def _note(error: BaseException, path: str) -> None:
    note = f"It failed in step {path!r}."
    with suppress(Exception):  # a frozen dataclass takes no notes
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def changed(
    names: Iterable[str], inner: Mapping[str, Parameter], outer: Mapping[str, Parameter]
) -> dict[str, Parameter]:
    """Those of the names that a branch has set, with their values.

    Args:
        names: Those that it may set.
        inner: Its parameters at its end.
        outer: Those that it began with; a value that was set is another object.
    """
    return {
        name: inner[name] for name in names if name in inner and inner[name] is not outer.get(name)
    }


def sets_of(graphs: Iterable[Graph]) -> tuple[str, ...]:
    """The names that any of the graphs may set, in order, each once."""
    return tuple(dict.fromkeys(name for graph in graphs for name in graph.sets))
