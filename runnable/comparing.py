"""Two runs side by side: their steps aligned by path, and where they part.

It is a function of two run logs as JSON (`runnable.run_json`), without a store and without a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, cast

Json = Mapping[str, Any]
Aspect = Literal["steps", "code", "inputs", "attempts", "status", "outputs", "metrics", "time"]

ASPECTS: Final[tuple[Aspect, ...]] = (
    "steps", "code", "inputs", "attempts", "status", "outputs", "metrics", "time",
)  # fmt: skip
"""What two runs can differ in; of one step, in the order in which one leads to the next."""
TIME_FACTOR: Final = 1.5
"""How many times as long one must have taken for that to be a difference."""
TIME_SECONDS: Final = 0.1
"""How much longer, besides."""

_CODE: Final = ("commit", "dirty", "packages", "python")


class Divergence(NamedTuple):
    """One thing in which two runs differ.

    Args:
        path: The step; empty for the run itself.
        aspect: What of it differs.
        place: Where in that: the name of a value, and the place in it: `page['rows'][3]`.
        first: What stands there in the first run; None if nothing does.
        second: The same of the second run.
        only_in: Which of the two alone has it; empty if both do.
    """

    path: str
    aspect: Aspect
    place: str
    first: Any
    second: Any
    only_in: Literal["", "first", "second"] = ""

    def swapped(self) -> Divergence:
        """The same, seen from the second run."""
        only_in = _SWAPPED[self.only_in]
        return self._replace(first=self.second, second=self.first, only_in=only_in)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs differ in.

    Args:
        first: The id of the first run.
        second: The id of the second.
        divergences: All differences: of the run's inputs and code, then step by step, in the order
            in which the steps began, then of the run's end.
        steps: How many steps there are in either.
        same: How many of them do not differ, times left aside.
    """

    first: str
    second: str
    divergences: Sequence[Divergence]
    steps: int
    same: int

    @property
    def leading(self) -> Divergence | None:
        """The first difference; one of time only if there is no other."""
        of_time = next(iter(self.divergences), None)
        return next((one for one in self.divergences if one.aspect != "time"), of_time)

    def by_aspect(self) -> dict[Aspect, list[Divergence]]:
        """The differences of each aspect that has some, in order."""
        found: dict[Aspect, list[Divergence]] = {}
        for aspect in ASPECTS:
            if those := [one for one in self.divergences if one.aspect == aspect]:
                found[aspect] = those
        return found


def compare(first: Json, second: Json) -> Comparison:
    """Compare two runs.

    Durations differ where one is 1.5 times the other and 0.1 s more. Large and pickled values are
    compared by their digests, inputs by their previews.

    Args:
        first: A run log as JSON.
        second: The other.

    Example:
        >>> from runnable import Pipeline, PythonTask
        >>> from runnable.run_json import run_json
        >>> def double(x: int) -> int: return 2 * x
        >>> pipeline = Pipeline(steps=[PythonTask(function=double, name="d", returns=["y"])])
        >>> one, two = (run_json(pipeline.execute({"x": x})) for x in (1, 2))
        >>> [(one.path, one.aspect, one.place) for one in compare(one, two).divergences]
        [('', 'inputs', 'x'), ('d', 'inputs', 'x'), ('d', 'outputs', 'y')]
    """
    ours: dict[str, Json] = {step["path"]: step for step in first["steps"]}
    theirs: dict[str, Json] = {step["path"]: step for step in second["steps"]}
    found = list(_beginnings(first, second))
    digests = _Digests(first["digests"], second["digests"])
    differing: set[str] = set()
    paths = _aligned(list(ours), list(theirs))
    for path in paths:
        here = list(_step(path, ours.get(path), theirs.get(path), digests))
        found += here
        if any(one.aspect != "time" for one in here):
            differing.add(path)
    found += _ends(first, second)
    return Comparison(
        first["run_id"], second["run_id"], found, len(paths), len(paths) - len(differing)
    )


def first_difference(first: object, second: object) -> tuple[str, object, object] | None:
    """Where two JSON values begin to differ, and what stands there; None if they do not.

    Example:
        >>> first_difference({"a": [1, 2]}, {"a": [1, 3]})
        ("['a'][1]", 2, 3)
    """
    one, other = first, second
    if isinstance(first, dict) and isinstance(second, dict):
        return _in_objects(cast("Json", first), cast("Json", second))
    if isinstance(first, list) and isinstance(second, list):
        return _in_lists(cast("list[object]", first), cast("list[object]", second))
    # JSON tells a number from a truth value, though Python takes 1 and True for equal.
    if isinstance(one, bool) is isinstance(other, bool) and one == other:
        return None
    return "", one, other


def _in_objects(first: Json, second: Json) -> tuple[str, object, object] | None:
    for key in _aligned(list(first), list(second)):
        if key not in first or key not in second:
            return f"[{key!r}]", first.get(key), second.get(key)
        if (inner := first_difference(first[key], second[key])) is not None:
            return f"[{key!r}]{inner[0]}", inner[1], inner[2]
    return None


def _in_lists(
    first: Sequence[object], second: Sequence[object]
) -> tuple[str, object, object] | None:
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if (inner := first_difference(one, other)) is not None:
            return f"[{at}]{inner[0]}", inner[1], inner[2]
    shorter = min(len(first), len(second))
    if len(first) == len(second):
        return None
    rest = (first[shorter : shorter + 1], second[shorter : shorter + 1])
    return f"[{shorter}]", next(iter(rest[0]), None), next(iter(rest[1]), None)


def _beginnings(first: Json, second: Json) -> Iterator[Divergence]:
    """What differs before the first step."""
    inputs = _with_digests(first, "initial_parameters"), _with_digests(second, "initial_parameters")
    yield from _values("", "inputs", *inputs)
    code: Json = first["code"] or {}
    other: Json = second["code"] or {}
    for name in _CODE:
        yield from _value("", "code", name, code.get(name), other.get(name))
    yield from _value("", "code", "runnable", first["version"], second["version"])


def _ends(first: Json, second: Json) -> Iterator[Divergence]:
    """What differs in how the runs ended."""
    yield from _value("", "status", "status", first["status"], second["status"])
    yield from _time("", first["duration"], second["duration"])


def _step(
    path: str, first: Json | None, second: Json | None, code: _Digests
) -> Iterator[Divergence]:
    if first is None or second is None:
        told = [None if step is None else step["status"] for step in (first, second)]
        yield Divergence(path, "steps", "", *told, only_in="second" if first is None else "first")
        return
    yield from code.difference(path)
    inputs = [_last(step).get("inputs", {}) for step in (first, second)]
    yield from _values(path, "inputs", *inputs)
    attempts = [len(step["attempts"]) for step in (first, second)]
    yield from _value(path, "attempts", "attempts", *attempts)
    yield from _value(path, "status", "status", _told(first), _told(second))
    yield from _values(path, "outputs", _outputs(first), _outputs(second))
    metrics = [{**step["metrics"], **step["series"]} for step in (first, second)]
    yield from _values(path, "metrics", *metrics)
    yield from _time(path, first["duration"], second["duration"])


def _last(step: Json) -> Json:
    """The last attempt of a step."""
    attempts: Sequence[Json] = step["attempts"]
    return attempts[-1] if attempts else {}


def _told(step: Json) -> str:
    """How a step ended, and of what."""
    last = _last(step)
    problem = f" ({last['error_type']}: {last['error']})" if last.get("error") else ""
    return f"{step['status']}{problem}"


def _outputs(step: Json) -> Json:
    """What a step returned beside its metrics."""
    values = _with_digests(step, "outputs")
    return {name: value for name, value in values.items() if name not in step["metrics"]}


def _with_digests(holder: Json, name: str) -> Json:
    """Values, those in blobs as the digests they are known by."""
    blobs: Json = holder["blobs"]
    return {
        key: blobs[key] if key in blobs and value is None else value
        for key, value in holder[name].items()
    }


def _values(path: str, aspect: Aspect, first: Json, second: Json) -> Iterator[Divergence]:
    for name in _aligned(list(first), list(second)):
        if name not in second:
            yield Divergence(path, aspect, name, first[name], None, "first")
        elif name not in first:
            yield Divergence(path, aspect, name, None, second[name], "second")
        else:
            yield from _value(path, aspect, name, first[name], second[name])


def _value(
    path: str, aspect: Aspect, name: str, first: object, second: object
) -> Iterator[Divergence]:
    if (found := first_difference(first, second)) is not None:
        yield Divergence(path, aspect, f"{name}{found[0]}", found[1], found[2])


def _time(path: str, first: float | None, second: float | None) -> Iterator[Divergence]:
    if first is None or second is None:
        return
    less, more = sorted((first, second))
    if more - less >= TIME_SECONDS and more >= TIME_FACTOR * less:
        yield Divergence(path, "time", "seconds", first, second)


def _aligned(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The names of both, in the order that both have, whichever of them is first."""
    places: dict[str, int] = {}
    for names in (first, second):
        for place, name in enumerate(names):
            places[name] = min(place, places.get(name, place))
    return sorted(places, key=lambda name: (places[name], name))


class _Digests:
    """The digests of the code of steps; a difference is told once, not for each item of a map."""

    def __init__(self, first: Mapping[str, str], second: Mapping[str, str]) -> None:
        self._first, self._second = first, second
        self._parts = {
            ".".join(parts[:end])
            for path in (*first, *second)
            for parts in (path.split("."),)
            for end in range(1, len(parts) + 1)
        }
        self._seen: set[str] = set()

    def difference(self, path: str) -> Iterator[Divergence]:
        place = self._in_graph(path)
        if place not in self._seen and place in self._first and place in self._second:
            self._seen.add(place)
            yield from _value(path, "code", "code", self._first[place], self._second[place])

    def _in_graph(self, path: str) -> str:
        """The place in the graph: `pages.*.fetch` for `pages.7.fetch`."""
        place = ""
        for part in path.split("."):
            here = f"{place}.{part}" if place else part
            place = here if here in self._parts or not part.isdecimal() else f"{place}.*"
        return place


_SWAPPED: Final[dict[str, Literal["", "first", "second"]]] = {
    "": "",
    "first": "second",
    "second": "first",
}
