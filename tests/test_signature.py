"""What a function needs, and how its arguments are filled by name."""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import io
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from runnable.annotation import EMPTY
from runnable.exceptions import BindingError, MissingParameterError
from runnable.parameters import JsonParameter, Parameter
from runnable.signature import Signature

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


class Page(BaseModel):
    url: str = Field(alias="URL")
    when: datetime.datetime | None = None


def parameters(**values: object) -> dict[str, Parameter]:
    return {name: JsonParameter(value) for name, value in values.items()}


def call(function: Callable[..., Any], **values: object) -> Any:
    """What the function makes of the parameters of these values."""
    bound = Signature.of(function).bind(parameters(**values), {}, "step")
    return function(*bound.args, **bound.kwargs)


def test_every_call_gets_a_copy_of_its_own():
    def append(items: list[int], more: Any, rest: dict[str, Any]) -> object:
        return items.append(2), more.append(2), rest.setdefault("b", 2)

    values = parameters(items=[1], more=[1], rest={"a": 1})
    for _ in range(2):
        bound = Signature.of(append).bind(values, {}, "step")
        assert bound.kwargs == {"items": [1], "more": [1], "rest": {"a": 1}}
        append(**bound.kwargs)


def test_iteration_variables_come_before_parameters_and_those_before_defaults():
    def f(item: int, x: int = 2, y: int = 3) -> None: ...

    bound = Signature.of(f).bind(parameters(item=0, x=1), {"item": "7"}, "step")
    assert bound.kwargs == {"item": 7, "x": 1}
    assert bound.used == {"item": "7", "x": JsonParameter(1)}


def test_an_iteration_variable_is_copied_as_a_parameter_is():
    def f(item: Any) -> None: ...

    item = [1]
    bound = Signature.of(f).bind({}, {"item": item}, "step")
    bound.kwargs["item"].append(2)
    assert item == [1]


def test_a_missing_argument_names_step_and_argument_and_what_there_is():
    def f(prompt: str) -> None: ...

    with pytest.raises(MissingParameterError) as raised:
        Signature.of(f).bind(parameters(url=1), {"item": 2}, "ask")
    assert str(raised.value).startswith(
        "Step 'ask' needs 'prompt', which no earlier step returns (there are: item, url)."
    )


def test_positional_only_arguments_are_filled_by_name():
    def f(a: int, b: int = 2, c: int = 3, /, d: int = 4, *, e: int) -> tuple[int, ...]:
        return a, b, c, d, e

    assert call(f, a=1, c=30, e=5) == (1, 2, 30, 4, 5)


def test_star_args_get_nothing():
    def f(a: int, *rest: int) -> tuple[int, ...]:
        return a, *rest

    assert call(f, a=1, rest=[2], b=3) == (1,)


def test_double_star_takes_what_is_not_bound_otherwise():
    def f(a: int, /, b: int = 0, **rest: Any) -> object:
        return a, b, rest

    assert call(f, a=1, b=2, c=[3], **{"any name": 4}) == (1, 2, {"c": [3], "any name": 4})
    assert Signature.of(f).takes_rest


def test_double_star_takes_iteration_variables_and_minds_its_annotation():
    def f(**rest: float) -> None: ...

    bound = Signature.of(f).bind(parameters(a=1, b="2.5"), {"b": 3}, "step")
    assert bound.kwargs == {"a": 1.0, "b": 3.0}
    assert bound.used == {"a": JsonParameter(1), "b": 3}
    with pytest.raises(BindingError, match="'a' is annotated float"):
        Signature.of(f).bind(parameters(a="x"), {}, "step")


def test_a_namespace_takes_what_is_not_bound_otherwise_as_attributes():
    def f(args: argparse.Namespace, rate: float) -> object:
        return vars(args), rate

    assert call(f, rate=1, url="u", args=[2]) == ({"url": "u", "args": [2]}, 1.0)
    assert call(f, rate=1) == ({}, 1.0)
    assert [one.is_namespace for one in Signature.of(f).arguments] == [True, False]


def test_a_namespace_may_be_positional_only_and_stand_beside_double_star():
    def f(args: argparse.Namespace, x: int, /, **rest: int) -> object:
        return vars(args), x, rest

    assert call(f, x=1, y=2) == ({"y": 2}, 1, {"y": 2})


def test_what_a_partial_fixes_is_no_argument():
    def f(a: int, b: int, c: int = 0, **rest: int) -> object:
        return a, b, c, rest

    partial = functools.partial(functools.partial(f, 1), c=3)
    assert [one.name for one in Signature.of(partial).arguments] == ["b"]
    assert call(partial, a=10, b=2, c=30, d=4) == (1, 2, 3, {"d": 4})
    bound = Signature.of(functools.partial(f, c=3)).bind(parameters(a=1, b=2, c=30, d=4), {}, "s")
    assert bound.kwargs == {"a": 1, "b": 2, "d": 4}


def test_methods_classes_and_callable_objects_are_functions():
    class Scale:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def times(self, x: int) -> int:
            return x * self.factor

        def __call__(self, x: int) -> int:
            return x * self.factor

    assert call(Scale(3).times, x="2") == 6
    assert call(Scale(3), x="2") == 6
    assert call(Scale, factor="4").factor == 4
    assert call(Page, URL="u") == Page(URL="u")
    assert Signature.of(Scale(3)).name.endswith("Scale")


def test_functions_written_in_c_are_bound_as_far_as_they_tell():
    assert call(divmod, x=7, y=2) == (3, 1)
    assert Signature.of(max).arguments == ()
    assert Signature.of(max).location == "builtins"


def test_a_wrapped_function_is_bound_by_the_signature_that_it_shows():
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return "logged", function(*args, **kwargs)

        return wrapper

    @logged
    async def fetch(url: str) -> str:
        return url

    signature = Signature.of(fetch)
    assert [one.name for one in signature.arguments] == ["url"]
    assert (signature.is_async, signature.is_sync) == (False, True)


async def plain(x: int) -> int:
    return x


async def tokens(x: int) -> AsyncIterator[str]:
    yield str(x)


def lines(x: int) -> Iterator[str]:
    yield str(x)


class AsyncCall:
    async def __call__(self, x: int) -> int:
        return x

    async def stream(self) -> AsyncIterator[int]:
        yield 1


class StreamCall:
    async def __call__(self, x: int) -> AsyncIterator[int]:
        yield x


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (plain, "async"),
        (functools.partial(plain, 1), "async"),
        (functools.partial(functools.partial(AsyncCall()), x=1), "async"),
        (AsyncCall(), "async"),
        (tokens, "async generator"),
        (functools.partial(tokens, x=1), "async generator"),
        (AsyncCall().stream, "async generator"),
        (StreamCall(), "async generator"),
        (lines, "generator"),
        (functools.partial(lines), "generator"),
        (lambda: 1, "sync"),
        (AsyncCall, "sync"),
        (print, "sync"),
    ],
)
def test_the_kind_of_a_function_is_that_of_what_is_called(function: Callable[..., Any], kind: str):
    signature = Signature.of(function)
    found = {
        "async": signature.is_async,
        "async generator": signature.is_async_generator,
        "generator": signature.is_generator,
        "sync": signature.is_sync,
    }
    assert [name for name, so in found.items() if so] == [kind]


def test_the_annotation_of_a_stream_says_nothing_of_its_value():
    def passes_on() -> AsyncIterator[str]:
        return tokens(1)

    def later() -> Awaitable[int]:
        return plain(1)

    assert [Signature.of(one).returns for one in (tokens, lines, passes_on)] == [EMPTY] * 3
    assert Signature.of(plain).returns is int
    assert Signature.of(later).returns is int


def test_text_annotations_are_resolved_in_module_and_closure():
    class Local(BaseModel):
        n: int

    def f(page: "Page", local: "Local", items: "list[Local]") -> "Mapping[str, Local]":  # noqa: UP037
        assert isinstance(local, Local)
        return {"local": local, "first": items[0]}

    assert call(f, page={"url": "u"}, local={"n": 1}, items=[{"n": 2}]) == {
        "local": Local(n=1),
        "first": Local(n=2),
    }


def test_an_annotation_that_cannot_be_resolved_stands_as_text_and_binds_anything():
    def f(x: OnlyForCheckers, y: int) -> OnlyForCheckers:
        return x + y

    signature = Signature.of(f)
    assert [(one.annotation, one.unresolved) for one in signature.arguments] == [
        (EMPTY, "OnlyForCheckers"),
        (int, ""),
    ]
    assert (signature.returns, signature.unresolved) == (EMPTY, "OnlyForCheckers")
    assert call(f, x=1, y="2") == 3


def test_a_signature_says_where_the_function_is_written():
    assert Signature.of(plain).location == f"{__file__}:{plain.__code__.co_firstlineno}"
    assert Signature.of(plain).name == "plain"


def test_the_signature_of_a_function_is_made_once_and_goes_with_it():
    def f(x: Page) -> Page:
        return x

    assert Signature.of(f) is Signature.of(f)
    assert Signature.of(plain) is not Signature.of(f)
    gone = weakref.ref(f)
    del f
    gc.collect()
    assert gone() is None


def test_callables_without_hash_or_weak_references_have_signatures():
    class Slotted:
        __slots__ = ()

        def __call__(self, x: int) -> int:
            return x

    class Equal(BaseModel):
        def __call__(self, x: int) -> int:
            return x

    assert call(Slotted(), x=1) == call(Equal(), x=1) == 1
    assert call(io.StringIO().write, s="ab") == 2


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_binding_does_not_depend_on_the_order_of_parameters(order: list[str]):
    def f(a: int, b: str, /, c: list[int], *, d: int = 0, **rest: int) -> object:
        return a, b, c, d, rest

    values = {"a": 1, "b": "2", "c": [3], "d": 4, "e": 5}
    assert call(f, **{name: values[name] for name in order}) == (1, "2", [3], 4, {"e": 5})
