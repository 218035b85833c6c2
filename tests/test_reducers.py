"""Reducers: what they may be given as, what a text may hold, and where it is stopped."""

from __future__ import annotations

import collections
import functools
import re
import statistics
import sys
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable.exceptions import DefinitionError, ReducerError
from runnable.lambdas import BUILTINS as CALLABLE
from runnable.lambdas import MAX_DEPTH, MAX_TEXT, METHODS
from runnable.reducers import BUILTINS, Reducer
from runnable.signature import Signature


def total(values: list[int]) -> int:
    """A reducer of a module."""
    return sum(values)


def apart(*values: int) -> tuple[int, ...]:
    """A reducer that takes the values apart."""
    return values


# What a reducer may be given as


@pytest.mark.parametrize(
    ("spec", "text", "result", "is_users_own"),
    [
        ("max", "max", 3, False),
        (" sorted\n", "sorted", [1, 2, 3], False),
        (max, "max", 3, False),
        (tuple, "tuple", (3, 1, 2), False),
        (total, f"{total.__module__}.total", 6, True),
        (apart, f"{apart.__module__}.apart", (3, 1, 2), True),
        (functools.partial(sorted, reverse=True), "builtins.sorted", [3, 2, 1], True),
        ("statistics.median", "statistics.median", 2, True),
        (statistics.median, "statistics.median", 2, True),
        (collections.Counter, "collections.Counter", {3: 1, 1: 1, 2: 1}, True),
        ("lambda xs: max(xs) + 1", "lambda xs: max(xs) + 1", 4, False),
        ("lambda *xs: xs", "lambda *xs: xs", (3, 1, 2), False),
        ("lambda xs: (\n  len(xs)\n)", "lambda xs: (\n  len(xs)\n)", 3, False),
    ],
)
def test_a_reducer_is_a_function_a_builtin_a_path_or_a_text(
    spec: Any, text: str, result: object, is_users_own: bool
):
    reducer = Reducer.of(spec)

    assert (reducer.text, reducer.is_users_own) == (text, is_users_own)
    assert reducer([3, 1, 2]) == result


def test_no_values_are_a_list_too():
    assert Reducer.of("sum")([]) == 0
    assert Reducer.of(apart)([]) == ()
    with pytest.raises(ValueError, match="empty"):
        Reducer.of("max")([])


@pytest.mark.parametrize("name", ["all", "any", "dict", "len", "list", "max", "min", "sorted"])
def test_the_annotation_of_what_any_reducer_gives_can_be_read(name: str):
    for spec in (name, f"lambda xs: {name}(xs)"):
        assert Signature.of(Reducer.of(spec).function).is_sync
    assert Signature.of(Reducer.of(total).function).returns is int


def test_the_digest_follows_the_reducer():
    def make(body: str) -> Callable[..., object]:
        space: dict[str, Any] = {}
        exec(f"def f(xs):\n    return {body}", space)
        return space["f"]

    digests = [Reducer.of(spec).digest for spec in (make("xs"), make("xs[0]"), "max", "min")]
    texts = [Reducer.of(f"lambda xs: {body}").digest for body in ("xs", "xs[0]")]
    assert len({*digests, *texts}) == 6
    assert Reducer.of(make("xs")).digest == digests[0]
    assert Reducer.of("max").digest == Reducer.of(max).digest


def no_argument() -> None: ...
def two_arguments(a: object, b: object) -> None: ...
def by_name_alone(xs: object, *, key: object) -> None: ...
async def later(xs: object) -> None: ...
def in_parts(xs: object):
    yield xs


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "is empty"),
        ("maximum", "is not on the list of builtins"),
        ("eval", "is not on the list of builtins"),
        ("print", "is not on the list of builtins"),
        ("__import__", "is not on the list of builtins"),
        ("no.such.module", "names no function (ModuleNotFoundError"),
        ("os.path.no_such_name", "names no function (AttributeError"),
        ("os.path.sep", "names no function (it cannot be called)"),
        ("builtins.eval", "names a builtin by a path"),
        ("builtins.max", "names a builtin by a path"),
        ("a..b", "is neither a lambda, nor a name, nor a dotted path"),
        (".a.b", "is neither a lambda, nor a name, nor a dotted path"),
        ("max(xs)", "is neither a lambda, nor a name, nor a dotted path"),
        ("import os", "is neither a lambda, nor a name, nor a dotted path"),
        (3, "is of type 'int'"),
        (None, "is of type 'NoneType'"),
        (no_argument, "cannot be called with one list"),
        (two_arguments, "cannot be called with one list"),
        (by_name_alone, "cannot be called with one list"),
        (later, "is async or a generator"),
        (in_parts, "is async or a generator"),
    ],
)
def test_what_cannot_be_a_reducer_is_refused_with_the_reason(spec: Any, reason: str):
    with pytest.raises(ReducerError) as caught:
        Reducer.of(spec)
    assert isinstance(caught.value, DefinitionError)
    assert caught.value.reason.startswith(reason)


def test_a_module_that_breaks_when_it_is_imported_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "breaks_on_import.py").write_text("1 / 0")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    with pytest.raises(ReducerError, match=r"cannot be imported .ZeroDivisionError") as caught:
        Reducer.of("breaks_on_import.function")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    sys.modules.pop("breaks_on_import", None)


# What a text gives is what Python gives

NUMBERS = [
    "lambda xs: max(xs) + 1",
    "lambda *xs: sum(xs)",
    "lambda xs: sum(xs) / len(xs)",
    "lambda xs: sorted(xs, key=lambda x: -x)",
    "lambda xs: sorted({*xs}, reverse=True)[:2]",
    "lambda xs: xs[::-1] + xs[1:]",
    "lambda xs: [x ** 2 for x in xs if x % 2]",
    "lambda xs: {k: [v for v in xs if v % 3 == k] for k in range(3)}",
    "lambda xs: [(a, b) for i, a in enumerate(xs) for b in xs[i:] if a < b <= 9]",
    "lambda xs: [f() for f in [lambda: x for x in xs]]",
    "lambda xs: list(map(lambda a, *b: (a, b), xs, xs[1:]))",
    "lambda xs: [*zip(xs, reversed(xs))]",
    "lambda xs: [[a, b] for a, *b in [xs, xs[1:]]]",
    "lambda xs: any(x > 5 for x in xs) and xs",
    "lambda xs: xs and xs[0] or None",
    "lambda xs: 1 / xs[0] if xs[0] else -0.5",
    "lambda xs: [x << 2 | 1 ^ ~x for x in xs]",
    "lambda xs: f'{sum(xs):>6d}|{xs!r}'",
    "lambda xs: {**{x: 1 for x in xs}, 0: 2}",
    "lambda xs: dict(zip(xs, xs)).get(3, 'no')",
    "lambda xs: sum(([x] * 2 for x in xs), [])",
    "lambda xs: [divmod(x, 3) for x in xs]",
    "lambda xs: xs.index(3) + xs.count(3)",
    "lambda xs: min(xs, default=7)",
    "lambda xs: [x in range(10**6) for x in xs] + [0.5 in range(9)]",
    "lambda xs: {x % 0 for x in xs}",
    "lambda xs: [y for x in xs for y in x]",
    "lambda xs: [a for a, b in xs]",
    "lambda xs: [a for a, b, *c in [xs]]",
    "lambda xs: [*5]",
    "lambda xs: {**5}",
    "lambda xs: {'a': 1}['b']",
    "lambda xs: xs + 'a'",
    "lambda xs: {xs}",
    "lambda max: max",
]
TEXTS = [
    "lambda xs: ', '.join(xs)",
    "lambda xs: [x.strip().upper() for x in xs]",
    "lambda xs: ''.join(xs).split('a')",
    "lambda xs: ' '.join(xs).split(maxsplit=1)",
    "lambda xs: max(xs, key=len)",
    "lambda xs: sorted(xs, key=lambda x: (len(x), x))",
    "lambda xs: {x: x.count('a') for x in xs if x}",
    "lambda xs: {x[0] for x in xs if 'a' in x}",
    "lambda xs: [x * 3 for x in xs]",
    "lambda *xs: list(filter(None, xs))",
    "lambda xs: {x: i for i, x in enumerate(xs)}",
    "lambda xs: sum(map(len, xs))",
    "lambda xs: [int(x) for x in xs]",
    "lambda xs: [str(x) + repr(x) for x in xs]",
    "lambda xs: [f'{x!a:>5}' for x in xs]",
    "lambda xs: sum(xs)",
    "lambda xs: 'a' < min(xs) < 'b'",
    "lambda xs: [ord(x[0]) for x in xs if x[:1] not in ('', 'b')]",
]


def outcome(function: Callable[..., object], *values: object) -> object:
    """What a call gives, or what it raises."""
    try:
        return function(*values)
    except Exception as problem:
        return type(problem), str(problem)


def as_python(text: str, values: list[Any]) -> object:
    """What Python's own lambda of that text makes of the values."""
    function = eval(text)
    return outcome(function, *values) if "lambda *" in text else outcome(function, values)


@pytest.mark.parametrize("text", NUMBERS)
@given(values=st.lists(st.integers(-20, 20), max_size=8))
def test_a_text_makes_of_numbers_what_python_does(text: str, values: list[int]):
    assert outcome(Reducer.of(text), values) == as_python(text, values)


@pytest.mark.parametrize("text", TEXTS)
@given(values=st.lists(st.text("ab c1é🦊", max_size=6), max_size=6))
def test_a_text_makes_of_texts_what_python_does(text: str, values: list[str]):
    assert outcome(Reducer.of(text), values) == as_python(text, values)


def test_a_generator_sees_the_names_around_it_as_they_are_when_it_goes_on():
    text = "lambda xs: [list(g) for g in [(i + j for j in xs) for i in xs]]"
    assert Reducer.of(text)([1, 2]) == as_python(text, [1, 2]) == [[3, 4], [3, 4]]


def test_a_text_may_be_wide():
    assert Reducer.of("lambda xs: [" + "1, " * 500 + "]")([]) == [1] * 500


# What a text may not hold

DEEP = 2_000
REFUSED = {
    "a walrus": "lambda xs: (y := 1)",
    "a walrus in a loop": "lambda xs: [y := x for x in xs]",
    "an await": "lambda xs: await xs",
    "a yield": "lambda xs: (yield xs)",
    "a yield from": "lambda xs: (yield from xs)",
    "an async loop": "lambda xs: [x async for x in xs]",
    "the class": "lambda xs: ().__class__",
    "the bases": "lambda xs: ().__class__.__bases__[0].__subclasses__()",
    "an attribute": "lambda xs: xs.real",
    "a method that is not called": "lambda xs: xs.count",
    "a method as a key": "lambda xs: sorted(xs, key=str.lower)",
    "format": "lambda xs: '{0.__class__}'.format(xs)",
    "format_map": "lambda xs: '{x.__class__}'.format_map({'x': xs})",
    "a form with an attribute": "lambda xs: f'{xs:{xs.__class__}}'",
    "an attribute in an f-string": "lambda xs: f'{xs.__class__}'",
    "changing the list": "lambda xs: xs.append(1)",
    "import": "lambda xs: __import__('os').system('true')",
    "eval": "lambda xs: eval('1')",
    "exec": "lambda xs: exec('1')",
    "compile": "lambda xs: compile('1', '', 'eval')",
    "open": "lambda xs: open('/etc/passwd').read()",
    "getattr": "lambda xs: getattr(xs, '__class__')",
    "type": "lambda xs: type(xs)",
    "globals": "lambda xs: globals()",
    "vars": "lambda xs: vars()",
    "input": "lambda xs: input()",
    "bytes": "lambda xs: bytes(10**12)",
    "pow": "lambda xs: pow(9, 9**9, 7)",
    "an unknown name": "lambda xs: ys",
    "builtins by name": "lambda xs: __builtins__",
    "debug": "lambda xs: __debug__",
    "an argument called as what is Python's own": "lambda __class__: 1",
    "an argument by name alone": "lambda xs, *, k: xs",
    "all arguments by name": "lambda **xs: xs",
    "no argument": "lambda: 1",
    "two arguments": "lambda a, b: 1",
    "an argument twice": "lambda xs: (lambda x, x: x)(1, 2)",
    "an argument given twice": "lambda xs: max(xs, key=len, key=len)",
    "bytes as a constant": "lambda xs: b'x'",
    "an ellipsis": "lambda xs: ...",
    "a complex number": "lambda xs: 1j",
    "a loop into an attribute": "lambda xs: [0 for xs.a in xs]",
    "two stars": "lambda xs: [0 for *a, *b in xs]",
    "two expressions": "lambda xs: 1; 2",
    "a statement": "lambda xs: return 1",
    "an expression around it": "(lambda xs: 1)([])",
    "a lambda and more": "lambda xs: 1, 2",
    "half an expression": "lambda xs: (",
    "no expression": "lambda xs:",
    "a null byte": "lambda xs: 1\0",
    "half a character": "lambda xs: '\ud800'",
    "a long text": f"lambda xs: '{'x' * 4096}'",
    "deep brackets": "lambda xs: " + "(" * DEEP + ")" * DEEP,
    "deep lists": "lambda xs: " + "[" * DEEP + "]" * DEEP,
    "lists of 61": "lambda xs: " + "[" * 61 + "]" * 61,
    "deep signs": "lambda xs: " + "-" * DEEP + "1",
    "deep not": "lambda xs: " + "not " * 1_000 + "1",
    "deep lambdas": "lambda xs: " + "lambda:" * 580 + "1",
    "deep conditions": "lambda xs: " + "1 if 1 else " * 330 + "1",
    "deep subscripts": "lambda xs: xs" + "[0]" * 1_300,
    "a long sum": "lambda xs: " + "1+" * DEEP + "1",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_text_with_what_it_may_not_hold_is_refused_before_it_runs(text: str):
    with pytest.raises(ReducerError) as caught:
        Reducer.of(text)
    assert caught.value.reducer == text.strip()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("lambda xs: foo(xs)", "foo"),
        ("lambda xs: [\n  'é🦊',\n  foo]", "foo"),
        ("lambda xs: xs.append(1)", "xs.append"),
        ("lambda xs: 1 +* 2", "* 2"),
        ("lambda xs: max(xs).real", "max(xs).real"),
    ],
)
def test_a_refusal_tells_the_column(text: str, place: str):
    with pytest.raises(ReducerError) as caught:
        Reducer.of(text)
    column = caught.value.column
    assert text[column - 1 :].startswith(place)
    assert f"at column {column}." in str(caught.value)


@pytest.mark.parametrize(
    "text", ["lambda xs, y=1 // 0: xs", "lambda xs, y=xs: y", "lambda xs, y=[][0]: y"]
)
def test_a_default_that_fails_is_refused_where_the_text_is_written(text: str):
    with pytest.raises(ReducerError, match="has a default that fails"):
        Reducer.of(text)


def test_a_refusal_tells_what_is_allowed():
    with pytest.raises(ReducerError, match=r"There are: sum, abs, all, .* dotted path"):
        Reducer.of("lambda xs: summ(xs)")
    with pytest.raises(ReducerError, match=r"\(sum, all, any, "):
        Reducer.of("summ")
    with pytest.raises(ReducerError, match="There are: count, endswith, get, "):
        Reducer.of("lambda xs: ''.format()")


# What is written of them

PAGE = (Path(__file__).parents[1] / "docs" / "reducers.md").read_text()
ROWS = re.findall(r"^\| `(lambda [^`]*)` \| `([^`]*)` \| `([^`]*)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("text", "values", "result"), ROWS)
def test_a_text_of_the_page_gives_what_the_page_says(text: str, values: str, result: str):
    assert Reducer.of(text)(literal_eval(values)) == literal_eval(result)


def test_the_page_has_its_rows_and_every_name_and_limit():
    assert len(ROWS) == 10
    named = {*re.findall(r"`(\w+)`", PAGE)}
    assert {*BUILTINS, *CALLABLE, *METHODS} <= named
    for limit in (MAX_TEXT, MAX_DEPTH):
        assert f" {limit:,} " in PAGE
