"""A step that runs its branch once for each item of a parameter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple, cast

from runnable import defaults
from runnable.binding import Signature, outputs_of
from runnable.calling import call_sync
from runnable.capture import ROUTER
from runnable.encoding import type_name
from runnable.exceptions import ItemsError, LimitError, UnencodableError
from runnable.graph import Graph, Outcome, Walker
from runnable.merging import gathered, kind_of
from runnable.nodes.branches import MAX_BRANCHES_AT_ONCE, Branches, OnError
from runnable.nodes.composite import EACH, CompositeNode, changed, failed, together
from runnable.parameters import JsonParameter, Parameter, TaskReturns
from runnable.reducers import Reducer
from runnable.scope import CURRENT, Scope

_RECALLED_IN_A_TURN: Final = 100
"""Items that are gone over before others on the loop may go on."""


class Items(NamedTuple):
    """The items of a list, and what encodes each when its turn comes."""

    values: Sequence[object]
    encode: Callable[[object], Parameter]


Column = list[Parameter | None]
"""What the items have set under one name, in their order."""


class MapNode(CompositeNode):
    """Runs its branch once for each item of a list, at once.

    Each name that the branch sets becomes the list of what the items have set, in their order,
    None where one has not; or what the reducer makes of that.

    Args:
        branch: What is run.
        iterate_on: The name of the parameter that holds the items.
        iterate_as: The name under which the branch gets its item.
        reducer: Makes one value of each list; None keeps the list.
        max_concurrency: How many run at once; None for 1,000.
        on_error: Whether the others go on, or are cancelled, when one fails.
        isolated: Whether its functions that are not async run in processes of their own.
    """

    node_type: ClassVar[str] = "map"

    def __init__(
        self,
        name: str,
        branch: Graph,
        iterate_on: str,
        iterate_as: str,
        *,
        reducer: Reducer | None = None,
        max_concurrency: int | None = None,
        on_error: OnError = "wait",
        isolated: bool = False,
        next_node: str = "",
        on_failure: Graph | None = None,
        location: str = "",
    ) -> None:
        super().__init__(name, next_node=next_node, on_failure=on_failure, location=location)
        self.branch = branch
        self.iterate_on = iterate_on
        self.iterate_as = iterate_as
        self.reducer = reducer
        self.max_concurrency = max_concurrency
        self.on_error: OnError = on_error
        self.isolated = isolated

    async def run(self, scope: Scope, walker: Walker) -> Outcome:
        """Run the branch for all items, and gather what they set."""
        try:
            items = self.items(scope)
        except Exception as error:
            return failed(error, scope)
        count = len(items.values)
        limit = min(self.max_concurrency or MAX_BRANCHES_AT_ONCE, count or 1)
        place = replace(
            scope.placement,
            inline=scope.placement.inline and limit == 1,
            isolated=scope.placement.isolated or self.isolated,
        )
        columns: dict[str, Column] = {name: [None] * count for name in self.branch.sets}

        async def branch(index: int, value: object) -> Outcome:
            parameters = dict(scope.parameters)
            try:
                variables = {self.iterate_as: items.encode(value)}
            except Exception as error:
                return failed(error, scope.enter(str(index)))
            inner = scope.enter(
                str(index), parameters=parameters, variables=variables, placement=place
            )
            try:
                outcome = await walker.walk(self.branch, inner)
            except KeyboardInterrupt as error:
                return Outcome(error=error)
            if outcome.error is None:
                _put(columns, index, changed(self.branch.sets, parameters, scope.parameters))
            return outcome

        todo = enumerate(items.values)
        if scope.run.history is not None:
            todo = iter(await self._not_done(items, columns, scope, walker))
        each = (partial(branch, index, value) for index, value in todo)
        branches = Branches(scope, each, limit, self.on_error)
        await branches.run()
        if branches.failed:
            return together(scope, branches.failed)
        try:
            return Outcome(
                {name: await self._merged(name, columns[name], scope) for name in columns}
            )
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit is a failure here as it is in a step
            return failed(error, scope)

    def items(self, scope: Scope) -> Items:
        """The items, each to be encoded for itself.

        Raises:
            MissingParameterError: If there is no such variable and no such parameter.
            ItemsError: If it is neither a list, nor a tuple, nor a dict.
            LimitError: If there are more than 1,000,000.
        """
        parameter = scope.find(self.iterate_on)
        value = parameter.get_value()
        if isinstance(value, Mapping):
            value = [list(pair) for pair in cast("Mapping[object, object]", value).items()]
        if not isinstance(value, list | tuple):
            raise ItemsError(scope.path, self.iterate_on, type_name(type(value)))
        values = cast("Sequence[object]", value)
        if len(values) > defaults.MAX_MAP_ITEMS:
            advice = "Put several of them together in one item."
            what = f"The parameter {self.iterate_on!r} of step {scope.path!r}"
            raise LimitError(what, len(values), defaults.MAX_MAP_ITEMS, "items", advice)
        return Items(values, scope.pickled if parameter.kind == "object" else JsonParameter)

    async def _not_done(
        self, items: Items, columns: Mapping[str, Column], scope: Scope, walker: Walker
    ) -> list[tuple[int, object]]:
        """The items that an earlier life has not done; what it has done is put in its place."""
        left: list[tuple[int, object]] = []
        for index, value in enumerate(items.values):
            found = walker.recall(self.branch, scope.enter(str(index)))
            if found is None:
                left.append((index, value))
            else:
                _put(columns, index, found)
            if index % _RECALLED_IN_A_TURN == _RECALLED_IN_A_TURN - 1:
                await asyncio.sleep(0)
        return left

    async def _merged(self, name: str, column: Column, scope: Scope) -> Parameter:
        if self.reducer is None:
            return gathered(column, name, scope.pickled)
        values = [None if one is None else one.get_value() for one in column]
        result = await self._reduced(self.reducer, values, scope)
        returns = (TaskReturns(name=name, kind=kind_of(column)),)
        signature = Signature.of(self.reducer.function)
        try:
            return outputs_of(result, returns, signature, scope.pickled, scope.warn)[name]
        except UnencodableError as error:
            place = error.place.removeprefix("result")
            raise UnencodableError(f"reduced[{name!r}]{place}", error.reason) from None

    async def _reduced(self, reducer: Reducer, values: list[object], scope: Scope) -> object:
        """Call the reducer where a sync function belongs, as the current scope."""
        if reducer.is_users_own and (waiting := scope.run.sink.commit()) is not None:
            await waiting  # what it is given is durable, as it is before a step
        token = CURRENT.set(scope)
        try:
            if reducer.is_users_own:
                return await call_sync(lambda: reducer(values), scope)
            return reducer(values)
        finally:
            CURRENT.reset(token)
            ROUTER.finish(scope)
            scope.run.deliver()
            scope.closed = scope.abandoned

    def graphs(self) -> Iterator[tuple[str, Graph]]:
        """The branch, and that of `on_failure`."""
        yield EACH, self.branch
        yield from super().graphs()

    def structure(self) -> dict[str, Any]:
        """The settings of the map, too."""
        settings = {"iterate_on": self.iterate_on, "iterate_as": self.iterate_as}
        return super().structure() | settings

    def digest(self) -> str:
        """The reducer's."""
        return "" if self.reducer is None else self.reducer.digest

    def sets(self) -> tuple[str, ...]:
        """What the branch sets."""
        return self.branch.sets


def _put(columns: Mapping[str, Column], index: int, found: Mapping[str, Parameter]) -> None:
    for name, parameter in found.items():
        columns[name][index] = parameter
