"""Notebook files and installed kernels, read without loading anything of Jupyter's machinery."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from runnable.exceptions import NotebookFileError, first_line, listed, nearest, shortened

NATIVE_KERNEL: Final = "python3"
"""The kernel of the environment itself, which is there whenever ipykernel is."""
_FORMATS: Final = (3, 4)


class Notebook(NamedTuple):
    """A notebook as its file has it.

    Args:
        text: The file, JSON.
        kernel: The name of the kernel that it asks for; empty if it names none.
        digest: Of the code in its cells.
    """

    text: str
    kernel: str
    digest: str


def missing_module() -> str:
    """What the extra `notebook` would install and is not there; empty if all of it is."""
    return next((name for name in ("nbclient", "jupyter_core") if find_spec(name) is None), "")


def read_notebook(path: str) -> Notebook:
    """Read a notebook, and see that it is one.

    Args:
        path: Relative to the current folder.

    Raises:
        NotebookFileError: If there is no such file, or it is no notebook.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        found: object = json.loads(text)
    except FileNotFoundError:
        reason = f"is not there; the current folder is {str(Path.cwd())!r}"
        raise NotebookFileError(path, reason, "Correct the path.") from None
    except OSError as problem:
        raise NotebookFileError(path, f"cannot be read ({first_line(problem)})") from problem
    except (ValueError, RecursionError) as problem:
        raise NotebookFileError(path, f"is not JSON ({first_line(problem)})") from problem
    if not isinstance(found, dict):
        raise NotebookFileError(path, "holds no JSON object")
    notebook = cast("dict[str, Any]", found)
    if reason := _fault(notebook):
        raise NotebookFileError(path, reason)
    return Notebook(text, _kernel_named_in(notebook), _digest(notebook))


def _fault(notebook: Mapping[str, Any]) -> str:
    """Why a JSON object is no notebook; empty if it is one."""
    version = notebook.get("nbformat")
    if type(version) is not int:
        return "does not say its nbformat, so it is no notebook"
    if version not in _FORMATS:
        return f"is of the format nbformat {version}, and the formats read are 3 and 4"
    if version == _FORMATS[0]:
        return "" if isinstance(notebook.get("worksheets"), list) else "has no list of worksheets"
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        return "has no list of cells"
    for number, cell in enumerate(cast("list[Any]", cells), 1):
        if not isinstance(cell, dict) or not _is_cell(cast("dict[str, Any]", cell)):
            return f"has a cell, number {number}, without a type or a source"
    return ""


def _is_cell(cell: Mapping[str, Any]) -> bool:
    source = cell.get("source")
    lines = cast("list[Any]", source) if isinstance(source, list) else [source]
    return isinstance(cell.get("cell_type"), str) and all(isinstance(one, str) for one in lines)


def _kernel_named_in(notebook: Mapping[str, Any]) -> str:
    metadata = notebook.get("metadata")
    spec = (
        cast("dict[str, Any]", metadata).get("kernelspec") if isinstance(metadata, dict) else None
    )
    name = cast("dict[str, Any]", spec).get("name") if isinstance(spec, dict) else None
    return name if isinstance(name, str) else ""


def _digest(notebook: Mapping[str, Any]) -> str:
    """Of the code alone: what a cell has printed, and the text between cells, change nothing."""
    sheets = notebook.get("worksheets") or [notebook]
    sources = [
        "".join(cell.get("source", cell.get("input", "")))
        for sheet in sheets
        for cell in sheet.get("cells", ())
        if cell.get("cell_type") == "code"
    ]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def check_kernel(path: str, name: str) -> str:
    """The name of the kernel for a notebook, installed and for Python.

    Args:
        path: The notebook, for the error.
        name: The kernel's name; empty for that of the environment.

    Raises:
        NotebookFileError: If none of that name is installed, or it is for another language.
    """
    wanted, known = (name or NATIVE_KERNEL).lower(), _kernels()
    if wanted not in known:
        there = listed(nearest(wanted, known)) or "none"
        raise NotebookFileError(
            path,
            f"asks for the kernel {name or NATIVE_KERNEL!r}, which is not installed "
            f"(there are: {there})",
            "Install it, or choose one with notebook_args={'kernel_name': …}.",
        )
    language = known[wanted]
    if language.lower() != "python":
        raise NotebookFileError(
            path,
            f"asks for the kernel {wanted!r}, which runs {shortened(language)}, and parameters "
            f"and returns are for Python kernels only",
            "Choose one with notebook_args={'kernel_name': …}.",
        )
    return wanted


def _kernels() -> dict[str, str]:
    """The installed kernels, each with its language; looked for where Jupyter looks."""
    from jupyter_core.paths import jupyter_path

    found: dict[str, str] = {}
    for folder in map(Path, jupyter_path("kernels")):
        if folder.is_dir():
            for file in sorted(folder.glob("*/kernel.json")):
                found.setdefault(file.parent.name.lower(), _language_of(file))
    if NATIVE_KERNEL not in found and find_spec("ipykernel") is not None:
        found[NATIVE_KERNEL] = "python"
    return found


def _language_of(file: Path) -> str:
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
        return str(spec.get("language", ""))
    except (OSError, ValueError, AttributeError):
        return "what its kernel.json does not say"
