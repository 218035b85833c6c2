"""What can be said of a pipeline before anything runs, and when a run starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final
from weakref import WeakKeyDictionary

from runnable.checker import Checker
from runnable.exceptions import CheckError, MissingParameterError, listed
from runnable.findings import Finding, Report
from runnable.graph import Graph

__all__ = ["Finding", "Report", "check", "require", "require_overrides", "require_ready"]

_NEEDS: Final[WeakKeyDictionary[Graph, Mapping[str, str]]] = WeakKeyDictionary()
"""Of the graphs that are alive in this process: what must come with the call → who needs it."""


def check(graph: Graph, *, here: bool = False) -> Report:
    """What can be said of a graph before it is given anything.

    Args:
        graph: One whose structure is right.
        here: Whether to look, too, if what its steps need is there now: files, kernels.
    """
    checker = Checker(graph)
    _NEEDS[graph] = checker.needs
    by_severity: dict[str, list[Finding]] = {"error": [], "warning": [], "note": []}
    for finding in [*checker.found, *(_hindrances(graph) if here else ())]:
        by_severity[finding.severity].append(finding)
    return Report(*map(tuple, by_severity.values()))


def _hindrances(graph: Graph, completed: Collection[str] = ()) -> Iterator[Finding]:
    for path, node in graph.hindered.items():
        if path not in completed:
            for sentence in node.obstacles():
                yield Finding(path, node.location, sentence[:1].lower() + sentence[1:])


def require_ready(graph: Graph, completed: Collection[str] = ()) -> None:
    """Check that what the steps need is there: files, kernels; called on a store's thread.

    Args:
        graph: One whose structure is right.
        completed: The paths of steps that will not run again.

    Raises:
        CheckError: If something is not.
    """
    if graph.hindered and (found := [*_hindrances(graph, completed)]):
        raise CheckError(found)


def require_overrides(graph: Graph, executor: str, known: Collection[str]) -> None:
    """Check that an executor has the overrides that steps ask it for; others' are not its own.

    Args:
        graph: One whose structure is right.
        executor: The name of the executor that runs it.
        known: The overrides that its configuration has.

    Raises:
        CheckError: If it has not got one.
    """
    there = f"there are: {listed(known)}" if known else "it has none"
    found = [
        Finding(
            path,
            "",
            f"asks the executor {executor!r} for the override {asked[executor]!r}, which its "
            f"configuration does not have ({there}). Add it there, or take it from the step.",
        )
        for path, asked in graph.overrides.items()
        if executor in asked and asked[executor] not in known
    ]
    if found:
        raise CheckError(found)


def require(graph: Graph, provided: Collection[str]) -> None:
    """Check that a run can fill every argument; what a graph needs is found out once.

    A step of an `on_failure` branch is held to that as well; one of a conditional's branch is if
    all its branches need the name.

    Args:
        graph: One whose structure is right.
        provided: The names of the initial parameters.

    Raises:
        MissingParameterError: If a required argument is given by nothing before its step.
    """
    needs = _NEEDS.get(graph)
    if needs is None:
        needs = _NEEDS[graph] = Checker(graph).needs
    for name, path in needs.items():
        if name not in provided:
            raise MissingParameterError(path, name, {*Checker(graph, path).known, *provided})
