"""What counts as the code of a function, and what does not."""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from runnable.fingerprint import Fingerprint, Unread, fingerprint

Write = Callable[..., ModuleType]


@pytest.fixture
def write(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of the project, or another version of it, and import it afresh."""
    monkeypatch.setattr(sys, "path", [str(own_folder), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = set(sys.modules)

    def make(text: str, name: str = "own_code") -> ModuleType:
        (own_folder / f"{name}.py").write_text(dedent(text))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in set(sys.modules) - names:
        if name.startswith("own_"):
            del sys.modules[name]


def changed(one: Fingerprint, other: Fingerprint) -> set[str]:
    names = one.parts.keys() | other.parts.keys()
    return {name for name in names if one.parts.get(name) != other.parts.get(name)}


@pytest.mark.parametrize(
    ("before", "after", "part"),
    [
        ("def f(x): return x + 1", "def f(x): return x + 2", "its code"),
        (
            "def f(x):\n try:\n  return g(x)\n except ValueError:\n  return 0",
            "def f(x):\n try:\n  return g(x)\n except TypeError:\n  return 0",
            "its code",
        ),
        ("def f(x): return x", "def f(x, /): return x", "its code"),
        ("def f(x=1): return x", "def f(x=2): return x", "the default of 'x'"),
        ("def f(*, x=1): return x", "def f(*, x=2): return x", "the default of 'x'"),
        ("def f(x: int): return x", "def f(x: float): return x", "the annotation of 'x'"),
        ("N = 1\ndef f(x): return x + N", "N = 2\ndef f(x): return x + N", "'N' of its module"),
        (
            "N = {'a': [1, (2,)]}\ndef f(x): return N",
            "N = {'a': [1, [2]]}\ndef f(x): return N",
            "'N' of its module",
        ),
        (
            "def g(x): return x\ndef f(x): return g(x)",
            "def g(x): return -x\ndef f(x): return g(x)",
            "'g' of its module",
        ),
        (
            "N = 1\ndef h(): return N\ndef g(): return h()\ndef f(x): return g()",
            "N = 2\ndef h(): return N\ndef g(): return h()\ndef f(x): return g()",
            "'g' of its module",
        ),
        (
            "class K:\n def m(self): return 1\ndef f(x): return K().m()",
            "class K:\n def m(self): return 2\ndef f(x): return K().m()",
            "'K' of its module",
        ),
        (
            "def g(): return 1\ndef f(x): return [g() for _ in x]",
            "def g(): return 2\ndef f(x): return [g() for _ in x]",
            "'g' of its module",
        ),
        (
            "from pydantic import BaseModel\nclass M(BaseModel):\n a: int = 1\ndef f(x: M): ...",
            "from pydantic import BaseModel\nclass M(BaseModel):\n a: int = 2\ndef f(x: M): ...",
            "the annotation of 'x'",
        ),
        (
            "import functools\n@functools.cache\ndef g(): return 1\ndef f(x): return g()",
            "import functools\n@functools.cache\ndef g(): return 2\ndef f(x): return g()",
            "'g' of its module",
        ),
    ],
)
def test_what_a_function_reads_counts(before: str, after: str, part: str, write: Write) -> None:
    one, again, other = (fingerprint(write(text).f) for text in (before, before, after))
    assert one == again
    assert changed(one, other) == {part}


def test_a_name_that_the_code_does_not_read_and_a_comment_do_not_count(write: Write) -> None:
    before = fingerprint(write("N = 1\ndef f(x): return x.N").f)
    after = fingerprint(write("N = 2\n# a comment\n\ndef f(x):\n    return x.N").f)
    assert changed(before, after) == set()


def test_functions_of_another_module_of_the_project_count(write: Write) -> None:
    for own in (
        "import own_other\ndef f(x): return own_other.g(x)",
        "from own_other import g as f",
    ):
        write("def g(x): return 1", "own_other")
        before = fingerprint(write(own).f)
        write("def g(x): return 2", "own_other")
        assert changed(before, fingerprint(write(own).f))


def test_a_library_counts_by_its_name_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def f() -> object:
        return pytest.approx(1)

    before = fingerprint(f)
    monkeypatch.setattr(pytest, "__version__", "another")
    assert changed(before, fingerprint(f)) == {"'pytest' of its module"}


@dataclass
class Settings:
    """A plain object."""

    level: int


class Counter:
    """A callable with a state."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, x: int) -> int:
        return self.start + x

    def method(self, x: int) -> int:
        return self.start - x


def closing_over(value: object) -> Callable[[], object]:
    return lambda: value


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (closing_over, "the variable 'value' that it closes over"),
        (lambda n: closing_over([{"n": n}]), "the variable 'value' that it closes over"),
        (lambda n: closing_over({n, "x"}), "the variable 'value' that it closes over"),
        (lambda n: closing_over(Settings(n)), "the variable 'value' that it closes over"),
        (lambda n: closing_over(closing_over(n)), "the variable 'value' that it closes over"),
        (lambda n: partial(max, n), "the argument 0 that a partial fixes"),
        (lambda n: partial(dict, n=n), "the argument 'n' that a partial fixes"),
        (Counter, "its attribute 'start'"),
        (lambda n: Counter(n).method, "the object that it is bound to"),
        (lambda n: functools.cache(closing_over(n)), "its code"),
    ],
)
def test_what_a_callable_holds_counts(
    make: Callable[[int], Callable[..., object]], part: str
) -> None:
    one, again, other = (fingerprint(make(n)) for n in (1, 1, 2))
    assert one == again
    assert changed(one, other) == {part}
    assert not one.unread


def test_what_cannot_be_looked_at_bars_where_it_is_closed_over(own_folder: Path) -> None:
    what = "the variable 'value' that it closes over"
    found = fingerprint(closing_over(threading.Lock()))
    assert found.obstacle == Unread(what, "_thread.lock", bars=True)
    with (own_folder / "open").open("w") as file:
        assert fingerprint(closing_over([file])).obstacle == Unread(
            what, "_io.TextIOWrapper", bars=True
        )


def test_what_cannot_be_looked_at_counts_by_its_type_in_a_module(write: Write) -> None:
    text = "import threading\nHELD = threading.{}()\ndef f(x): return HELD"
    one, again, other = (fingerprint(write(text.format(k)).f) for k in ("Lock", "Lock", "RLock"))
    assert one == again
    assert changed(one, other) == {"'HELD' of its module"}
    assert one.obstacle is None
    assert one.unread == (Unread("'HELD' of its module", "_thread.lock", bars=False),)


def test_cycles_and_deep_values_end(write: Write) -> None:
    loop: list[object] = []
    loop.append(loop)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert fingerprint(closing_over(loop)) == fingerprint(closing_over(loop))
    assert fingerprint(closing_over(deep)).obstacle is not None
    text = "def f(x): return g(x)\ndef g(x): return f(x)"
    assert fingerprint(write(text).f) == fingerprint(write(text).f)


def test_a_builtin_has_a_fingerprint() -> None:
    assert fingerprint(len) == fingerprint(len) != fingerprint(max)
    assert fingerprint("a".join) != fingerprint("b".join)


def test_it_is_the_same_in_another_process(write: Write, own_folder: Path) -> None:
    import subprocess

    text = "S = {'a', 'b', 'c'}\nclass K:\n x = {'p', 'q'}\ndef f(x, y={'u', 'v'}): return S, K"
    write(text)
    code = "import own_code, runnable.fingerprint as o; print(o.fingerprint(own_code.f))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join([str(own_folder), *sys.path])},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1
