"""Which file of a run a step gets under a name: the last that was put where the step can see it.

A step sees what steps before it have put in its own branch and in those around it, as it sees their
parameters. What the branches of a composite have put is seen by the steps after it; where two that
ran beside each other have put one name with different content, nobody can say which is meant, and
getting it is an error. What a failed attempt has put is seen by the step's `on_failure` branch
alone, and not by its next attempt, which begins with the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, cast

from runnable import defaults
from runnable.exceptions import CatalogError
from runnable.runlog import RunLog
from runnable.steplog import DataCatalog


class Put(NamedTuple):
    """A file that was put: the seq of the record that says so, the step's path, the file."""

    seq: int
    path: str
    file: DataCatalog
    other: str = ""
    """The path of a step that has put other content under the name beside it."""

    def clear(self) -> DataCatalog:
        """The file.

        Raises:
            CatalogError: If it is not clear which one is meant.
        """
        if self.other:
            raise CatalogError(
                f"The file {self.file.name!r}",
                f"was put by steps {self.other!r} and {self.path!r}, which ran beside each other, "
                f"with different content",
                "Have each put a name of its own",
            )
        return self.file


Branch = dict[str, Put]
"""Name → what was put last under it."""


class Ledger:
    """What the steps of a run have put, branch by branch.

    Args:
        history: What earlier lives of the run have done.
    """

    def __init__(self, history: RunLog | None = None) -> None:
        self._branches: dict[str, Branch] = {}
        """Path of a branch → its files; of what ran in composites that have ended, in the one
        around them."""
        self._inside: dict[str, dict[str, None]] = {}
        """Path of a composite → the branches in it that have files, and those in their composites,
        so that closing one costs what is in it and not what is in the run."""
        if history is not None:
            self._replay(history)

    @classmethod
    def of(cls, history: RunLog | None) -> Self | None:
        """What earlier lives of a run have put; None if that is nothing."""
        ledger = None if history is None else cls(history)
        return ledger if ledger is not None and ledger._branches else None

    def put(self, path: str, seq: int, files: Iterable[DataCatalog], *, failed: bool) -> None:
        """An attempt of a step has put files.

        Args:
            path: The step's.
            seq: Of the record that says so.
            files: What it has put.
            failed: Whether the attempt has failed.
        """
        after = f"{path}.{defaults.ON_FAILURE}"
        self._pop(after)
        put = {file.name: Put(seq, path, file) for file in files}
        if put:
            self._at(after if failed else _around(path)).update(put)

    def see(self, path: str, puts: Iterable[Put]) -> None:
        """Take what a step at that path sees, as another process has found it out."""
        self._at(_around(path)).update({put.file.name: put for put in puts})

    def close(self, path: str, *, in_turn: bool) -> None:
        """A composite has succeeded: what its branches have put is seen by the steps after it.

        Args:
            path: The composite's.
            in_turn: Whether its branches ran one after the other.
        """
        if self._branches:
            self._hand_on(path, self._taken(path, f"{path}."), in_turn=in_turn)

    def turn_over(self, path: str) -> None:
        """A turn of a loop is over: the next sees what it has put.

        Args:
            path: The turn's, which is a branch of the loop.
        """
        if self._branches:
            loop = _around(path)
            inside = [self._pop(path), *self._taken(loop, f"{path}.")]
            self._hand_on(loop, inside, in_turn=True)

    def _hand_on(self, path: str, inside: Iterable[Branch], *, in_turn: bool) -> None:
        came = _merged(path, inside, in_turn=in_turn)
        if not came:
            return
        outer = self._at(_around(path))
        for name, put in came.items():
            if name not in outer or outer[name].seq < put.seq:
                outer[name] = put

    def _taken(self, composite: str, start: str) -> list[Branch]:
        """The branches of a composite whose paths begin so; they are gone then."""
        found = [one for one in self._inside.get(composite, ()) if one.startswith(start)]
        return [self._pop(one) for one in found]

    def _at(self, branch: str) -> Branch:
        """The files of a branch, to be added to."""
        files = self._branches.get(branch)
        if files is None:
            files = self._branches[branch] = {}
            for composite in _composites_around(branch):
                self._inside.setdefault(composite, {})[branch] = None
        return files

    def _pop(self, branch: str) -> Branch:
        """The files of a branch, which has none then."""
        files = self._branches.pop(branch, None)
        if files is None:
            return {}
        for composite in _composites_around(branch):
            inside = self._inside[composite]
            del inside[branch]
            if not inside:
                del self._inside[composite]
        return files

    def seen_from(self, path: str) -> Mapping[str, Put]:
        """Name → what a step at that path gets.

        Args:
            path: The step's.
        """
        seen: Branch = {}
        for branch in _branches_around(path):
            step, _, last = branch.rpartition(".")
            own = self._branches.get(branch, {})
            seen = {**own, **seen}
            if last == defaults.ON_FAILURE:
                there = [one for one in self._inside.get(step, ()) if one != branch]
                inside = [self._branches[one] for one in there]
                seen = {**_merged(step, inside, in_turn=False), **seen}
        return seen

    def _replay(self, history: RunLog) -> None:
        """Begin as an earlier life has left it: first the steps, then the composites around them.

        The innermost are closed first; the seq of each file says which came last.
        """
        for path, step in history.steps.items():
            for seq, failed, files in step.puts():
                self.put(path, seq, files, failed=failed)
        if self._branches:
            steps = history.steps.items()
            ended = [
                path
                for path, step in steps
                if step.is_composite and step.status == defaults.SUCCESS
            ]
            for path in sorted(ended, key=lambda one: -one.count(".")):
                self.close(path, in_turn=_is_loop(history.structure, path))


def _merged(path: str, inside: Iterable[Branch], *, in_turn: bool) -> Branch:
    """What the branches of a composite have put, together."""
    came: Branch = {}
    for files in inside:
        for name, put in files.items():
            before = came.get(name)
            if before is None:
                came[name] = put
                continue
            older, newer = (before, put) if before.seq < put.seq else (put, before)
            beside = not in_turn and _branch_of(older.path, path) != _branch_of(newer.path, path)
            other = newer.other or older.other
            if beside and older.file.sha256 != newer.file.sha256:
                other = other or older.path
            came[name] = newer._replace(other=other)
    return came


def _around(path: str) -> str:
    """The branch that a step stands in; the pipeline's own is empty."""
    return path.rpartition(".")[0]


def _branches_around(path: str) -> Iterator[str]:
    """The branch that a step stands in, the one around that, and so on."""
    branch = _around(path)
    while True:
        yield branch
        if not branch:
            return
        branch = _around(_around(branch))


def _composites_around(branch: str) -> Iterator[str]:
    """The composite that a branch is of, the one around that, and so on."""
    composite = _around(branch)
    while composite:
        yield composite
        composite = _around(_around(composite))


def _branch_of(path: str, composite: str) -> str:
    return path[len(composite) + 1 :].partition(".")[0]


def _is_loop(structure: Mapping[str, Any], path: str) -> bool:
    """Whether the step at a path is a loop, as the structure of the run's graph has it."""
    parts: Sequence[str] = path.split(".")
    graph: Mapping[str, Any] = structure
    for step, branch in zip(parts[::2], [*parts[1::2], ""], strict=False):
        node = cast("Mapping[str, Any]", graph.get("steps", {}).get(step, {}))
        if not branch:
            return node.get("type") == "loop"
        branches = cast("Mapping[str, Any]", node.get("branches", {}))
        graph = branches.get(branch, branches.get("*", {}))
    return False
