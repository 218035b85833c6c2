"""Notebooks for tests, written as lists of cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runnable import NotebookTask

Write = Callable[..., str]


def writer(folder: Path) -> Write:
    """Writes a notebook of cells into a folder; a pair is a cell and its tag."""

    def cell(given: str | tuple[str, str]) -> dict[str, Any]:
        source, tags = (given, []) if isinstance(given, str) else (given[0], [given[1]])
        empty: dict[str, Any] = {"outputs": [], "execution_count": None}
        return {"cell_type": "code", "source": source, "metadata": {"tags": tags}, **empty}

    def file(*cells: str | tuple[str, str], name: str = "n.ipynb", **metadata: Any) -> str:
        notebook = {"nbformat": 4, "nbformat_minor": 4, "metadata": metadata}
        content = json.dumps({**notebook, "cells": [cell(one) for one in cells]})
        (folder / name).write_text(content)
        return name

    return file


def step(notebook: str, *returns: Any, **settings: Any) -> NotebookTask:
    """A step named `s`."""
    return NotebookTask(notebook=notebook, name="s", returns=list(returns), **settings)
