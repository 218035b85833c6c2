"""What a notebook step may be told about its kernel and its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import Field

from runnable.exceptions import DefinitionError, listed, nearest
from runnable.model import Definition

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NotebookArgs(Definition):
    """The keys of `notebook_args`, named as nbclient's `NotebookClient` names them.

    Example:
        >>> NotebookArgs(kernel_name="python3", timeout=60).timeout
        60.0
    """

    kernel_name: str = ""
    """The kernel; else the one that the notebook names, else `python3`."""
    cwd: str = ""
    """The folder that the kernel starts in; else the current one."""
    timeout: Seconds | None = None
    """Seconds that one cell may take."""
    startup_timeout: Seconds = 60.0
    """Seconds that the kernel may take to answer first."""
    interrupt_on_timeout: bool = False
    """Whether a cell that takes longer is interrupted, and fails as an interrupted one does."""
    allow_errors: bool = False
    """Whether the notebook goes on after a cell that failed."""
    allow_error_names: Sequence[str] = ()
    """The names of exceptions after which it goes on."""
    skip_cells_with_tag: str = "skip-execution"
    """Cells with that tag are not run."""
    record_timing: bool = True
    """Whether the executed notebook says when each cell began and ended."""
    extra_arguments: Sequence[str] = ()
    """Arguments for the kernel's command line."""


def read_args(given: object) -> object:
    """Refuse keys of `notebook_args` that mean nothing; the model looks at the values.

    Raises:
        DefinitionError: If it is not a mapping, or has such a key.

    Example:
        >>> read_args({"kernel": "python3"})
        Traceback (most recent call last):
        ...
        runnable.exceptions.DefinitionError: notebook_args has no key 'kernel'; the nearest is \
'kernel_name' (others: allow_error_names, allow_errors, cwd, extra_arguments, \
interrupt_on_timeout, record_timing, skip_cells_with_tag, startup_timeout, timeout).
    """
    if given is None:
        return NotebookArgs()
    if isinstance(given, NotebookArgs) or not isinstance(given, Mapping):
        return given
    keys = cast("Mapping[object, object]", given)
    for key in map(str, keys):
        if key not in NotebookArgs.model_fields:
            near, *others = nearest(key, NotebookArgs.model_fields)
            raise DefinitionError(
                f"notebook_args has no key {key!r}; the nearest is {near!r} "
                f"(others: {listed(others)})."
            )
    return NotebookArgs(**cast("Mapping[str, Any]", given))


__all__ = ["NotebookArgs", "read_args"]
