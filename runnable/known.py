"""What is known where a walk through a pipeline stands: who gives each name, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from runnable.binding import EMPTY
from runnable.shapes import any_of

if TYPE_CHECKING:
    from typing import Any

    from runnable.parameters import Kind


@dataclass(eq=False, slots=True)
class Giver:
    """What is known of one name.

    Args:
        name: The name.
        kind: How its value travels.
        annotation: Of its value.
        path: The step that gives it, or the composite, if several of its steps do.
        location: Of the step's function.
        parts: Where it is returned, if not by one step alone.
        maybe: Why it may not be there; empty if it is.
        verb: What `path` does with it.
        is_thin: Whether the value may be the one from before, because it was not set anew.
        since: How many ways through its graph had ended when it was given.
        is_read: Whether anybody reads it.
    """

    name: str
    kind: Kind
    annotation: Any
    path: str
    location: str = ""
    parts: tuple[Giver, ...] | None = None
    maybe: str = ""
    verb: str = "returns"
    is_thin: bool = False
    since: int = 0
    is_read: bool = False

    def read(self) -> None:
        """Note that somebody reads it."""
        if not self.is_read:
            self.is_read = True
            for part in self.parts or ():
                part.is_read = True

    @property
    def unread(self) -> tuple[Giver, ...]:
        """Where it is returned and nobody reads it; metrics need not be read."""
        if self.is_read or self.kind == "metric":
            return ()
        if self.parts is None:
            return (self,)
        return tuple(part for part in self.parts if not part.is_read)


def unread_of(givers: Iterable[Giver]) -> tuple[Giver, ...]:
    """The same of several, each once."""
    return tuple(dict.fromkeys(part for giver in givers for part in giver.unread))


def one_of(givers: Sequence[Giver], path: str) -> Giver:
    """What gives a name that one of several has given; `path` is what they stand in."""
    if len(givers) == 1:
        return replace(givers[0], parts=givers[0].unread)
    kinds = {giver.kind for giver in givers}
    annotation = any_of(giver.annotation for giver in givers)
    if len(kinds) > 1 and "object" in kinds:
        annotation = EMPTY
    paths = {giver.path for giver in givers}
    return replace(
        givers[-1],
        kind=kinds.pop() if len(kinds) == 1 else "object" if "object" in kinds else "json",
        annotation=annotation,
        path=paths.pop() if len(paths) == 1 else path,
        parts=unread_of(givers),
        is_read=False,
    )


class Use(NamedTuple):
    """A name that a step reads.

    Args:
        name: The name.
        path: The step.
        location: Of its function.
        does: What it does with the name, for messages.
        is_required: Whether it cannot do without.
        compare: Severity and message of what is wrong with what is given.
    """

    name: str
    path: str
    location: str
    does: str
    is_required: bool
    compare: Callable[[Giver], Iterable[tuple[str, str]]]


@dataclass(eq=False, slots=True)
class Layer:
    """One graph that is walked, and what its steps have given up to where the walk stands.

    Args:
        path: Of the branch; empty for the pipeline.
        around: The layer of the step that the branch belongs to.
        variables: The iteration variables, which hide parameters.
        hands_on: Whether what it gives is there for the pipeline around it, which reports what
            nobody reads.
        is_isolated: Whether its sync functions run in processes.
        is_choice: Whether it may be left out, being a branch of a conditional.
        needs: What must come with the call → the first step that needs it.
        carried: What is read in a turn of a loop before the turn gives it: a turn before may have.
    """

    path: str = ""
    around: Layer | None = None
    variables: Mapping[str, Giver] = field(default_factory=dict[str, "Giver"])
    hands_on: bool = False
    is_isolated: bool = False
    is_choice: bool = False
    needs: dict[str, str] = field(default_factory=dict[str, str])
    carried: list[Use] | None = None
    reads_all: bool = False
    """A step takes whatever there is."""
    always_fails: bool = False
    """The graph has been walked, and never ends with success."""
    unread: dict[str, Giver] = field(default_factory=dict[str, Giver])
    _visible: dict[str, Giver] = field(default_factory=dict[str, Giver])
    _own: dict[str, Giver] = field(default_factory=dict[str, Giver])
    """Those of `_visible` without what they take over from around, where that differs."""
    _ways: int = 0
    """How many `on_failure` branches may have ended the graph before this point."""
    _left: dict[str, list[Giver]] = field(default_factory=dict[str, list[Giver]])
    """What the name is if one of those has."""
    _settled: dict[str, int] = field(default_factory=dict[str, int])
    """Name → how many ways had ended when it was first surely there."""
    _in_ways: dict[str, int] = field(default_factory=dict[str, int])
    """Name → in how many of those it was there nevertheless."""

    def inner(
        self,
        segment: str,
        *,
        variables: Mapping[str, Giver] | None = None,
        hands_on: bool = True,
        is_isolated: bool = False,
        is_choice: bool = False,
        is_turn: bool = False,
    ) -> Layer:
        """The layer of a branch.

        Args:
            segment: Its path.
            variables: Its iteration variables, beside those that are there already.
            hands_on: See above.
            is_isolated: See above.
            is_choice: Whether another branch may run in its place.
            is_turn: Whether it runs again after it has ended.
        """
        return Layer(
            segment,
            self,
            self.variables if variables is None else {**self.variables, **variables},
            hands_on,
            self.is_isolated or is_isolated,
            self.is_choice or is_choice,
            {} if is_choice else self.needs,
            [] if is_turn else None,
        )

    def outward(self) -> Iterator[Layer]:
        """This layer, and those around it."""
        layer: Layer | None = self
        while layer is not None:
            yield layer
            layer = layer.around

    def names(self) -> Collection[str]:
        """All that is known here."""
        layers = [layer._visible for layer in self.outward()]
        return dict.fromkeys([*self.variables, *(name for one in layers for name in one)])

    def find(self, name: str) -> tuple[Giver | None, Sequence[list[Use]]]:
        """Who gives a name that is read here; and the loops, a turn before of which may have."""
        found = self.variables.get(name)
        if found is not None:
            return found, ()
        loops: list[list[Use]] = []
        layer: Layer | None = self
        while layer is not None:
            giver = layer._visible.get(name)
            if giver is not None:
                found = found or giver
                if not giver.is_thin:
                    break
            if layer.carried is not None:
                loops.append(layer.carried)
            layer = layer.around
        return found, loops

    def take(self, giver: Giver, *, is_last: bool) -> Iterable[Giver]:
        """A step gives a name; give back where one is returned that nobody can read any more."""
        name = giver.name
        before, pending = self._visible.get(name), self.unread.pop(name, None)
        giver.since = self._ways
        lost: tuple[Giver, ...] = ()
        if giver.maybe:
            giver = self._take_maybe(giver, before)
        elif before is None:
            self._settled[name] = self._ways
        else:
            self._settled.setdefault(name, self._ways)
            own = self._own.pop(name, before)
            if own.since < self._ways:
                self._left.setdefault(name, []).append(own)
            elif pending is not None:
                lost = own.unread
        self._visible[name] = giver
        if not is_last:
            self.unread[name] = giver
        return lost

    def _take_maybe(self, giver: Giver, before: Giver | None) -> Giver:
        """A name that may not have been given is what it was before, or the new value."""
        name, own = giver.name, giver
        if before is not None:
            own = self._own.get(name, before)
            maybe, since = own.maybe, own.since
            own = replace(one_of([own, giver], giver.path), maybe=maybe, since=since)
        known = before or self._around(name)
        if known is not None:
            self._own[name] = own
            giver = replace(one_of([known, giver], giver.path), maybe=known.maybe)
        elif any(name in layer.needs for layer in self.outward()):
            self._own[name] = own
            giver = replace(giver, maybe="")
        giver.is_thin = before is None or before.is_thin
        giver.since = self._ways if before is None else before.since
        return giver

    def _around(self, name: str) -> Giver | None:
        outer = self.around.outward() if self.around else ()
        return next((one._visible[name] for one in outer if name in one._visible), None)

    def read_all(self) -> None:
        """A step takes whatever there is."""
        for layer in self.outward():
            for giver in layer.unread.values():
                giver.read()
            layer.unread.clear()
            layer.reads_all = True

    def never_read(self) -> tuple[Giver, ...]:
        """What is returned here and nobody has read."""
        return unread_of(self._own.get(name, giver) for name, giver in self.unread.items())

    def end_way(self, given: Mapping[str, Giver]) -> None:
        """An `on_failure` branch that gives so much may end the graph here."""
        for name, giver in given.items():
            self._left.setdefault(name, []).append(giver)
            if not giver.maybe and name not in self._settled:
                self._in_ways[name] = self._in_ways.get(name, 0) + 1
        self._ways += 1

    def result(self, *, is_way: bool) -> dict[str, Giver]:
        """What the graph gives to the pipeline around it.

        Args:
            is_way: Whether it goes on there when its last step has ended.
        """
        self.always_fails = not (is_way or self._ways)
        is_way = is_way or not self._ways
        found: dict[str, Giver] = {}
        step = self.path.rpartition(".")[0]
        for name in dict.fromkeys([*self._visible, *self._left]):
            last = self._own.get(name) or self._visible.get(name)
            givers = list(self._left.get(name, ()))
            if last is not None and (is_way or last.since < self._ways):
                givers.append(last)
            if givers:
                giver = one_of(givers, step)
                maybe = "" if self._is_sure(name, is_way=is_way) else self._why(givers)
                found[name] = replace(giver, maybe=maybe, is_thin=False)
        return found

    def _is_sure(self, name: str, *, is_way: bool) -> bool:
        if is_way and name not in self._settled:
            return False
        return self._in_ways.get(name, 0) == self._settled.get(name, self._ways)

    def _why(self, givers: Iterable[Giver]) -> str:
        reasons = [giver.maybe for giver in givers if giver.maybe]
        ended = f"it is not there if an on_failure branch has ended branch {self.path!r}"
        return reasons[0] if reasons else ended
