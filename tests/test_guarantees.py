"""Each promise stands beside tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PAGE = (PROJECT / "docs" / "guarantees.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda text: text.rpartition("/")[2])
def test_a_test_that_proves_a_promise_is_there(path: str, name: str) -> None:
    tree = ast.parse((PROJECT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in ast.walk(tree) if isinstance(node, functions)}

    assert name in found if name else any(one.startswith("test_") for one in found)


def test_every_promise_has_a_test() -> None:
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    promises = [part for part in parts if not part.startswith("Where it ends")]

    assert len(promises) >= 10
    assert [part.partition("\n")[0] for part in promises if "`tests/" not in part] == []
