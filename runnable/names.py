"""What a run, a step, a branch and a parameter may be called."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import NewType

from runnable.defaults import MAX_NAME, MAX_RUN_ID, ON_FAILURE
from runnable.exceptions import InvalidNameError

RunId = NewType("RunId", str)
StepPath = NewType("StepPath", str)

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_FORBIDDEN_IN_STEP = "./%"


def check_step_name(name: str, what: str = "step") -> str:
    """Give the name back if a step or branch may have it.

    Args:
        name: 1–200 characters; no `.`, `/`, `%`, no control characters, no space at the ends.
        what: The word for the thing in the error: `step` or `branch`.

    Raises:
        InvalidNameError: If it may not.

    Example:
        >>> check_step_name("fetch the page")
        'fetch the page'
    """
    for character in _FORBIDDEN_IN_STEP:
        if character in name:
            raise InvalidNameError(what, name, f"contains {character!r}")
    if what == "branch" and name == ON_FAILURE:
        raise InvalidNameError(what, name, "is kept for what runs when a step fails")
    return _check_text(name, what)


def step_name_from(text: str, taken: Collection[str] = ()) -> str:
    """A name that a step may have, as near to a text as there is one.

    Args:
        text: Any text.
        taken: Names that it may not have.

    Example:
        >>> step_name_from("report.v2"), step_name_from("success", taken=["success"])
        ('report-v2', 'success-job')
    """
    kept = ["-" if _is_forbidden(character) else character for character in text]
    name = "".join(kept)[:MAX_NAME].strip() or "job"
    return f"{name}-job" if name in taken else name


def check_parameter_name(name: str) -> str:
    """Give the name back if a parameter may have it: 1–200 characters, none a control character.

    Raises:
        InvalidNameError: If it may not.
    """
    return _check_text(name, "parameter", edges=False)


def check_metric_name(name: str) -> str:
    """Give the name back if a metric may have it: 1–200 characters, none a control character.

    Raises:
        InvalidNameError: If it may not.
    """
    return _check_text(name, "metric", edges=False)


def check_identifier(name: str, what: str) -> str:
    """Give the name back if it is a Python identifier of at most 200 characters.

    Raises:
        InvalidNameError: If it is not.
    """
    if not name.isidentifier():
        raise InvalidNameError(what, name, "is not a Python identifier")
    return _check_text(name, what)


def check_label(text: str, what: str) -> str:
    """Give a tag or a pipeline's name back if it can be stored: any text, empty too.

    Raises:
        InvalidNameError: If it has half of a character, a lone surrogate.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidNameError(what, text, "has half of a character (a lone surrogate)") from None
    return text


def check_run_id(run_id: str) -> RunId:
    """Give the id back if a run may have it: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.

    Raises:
        InvalidNameError: If it may not; a path such as `../../x` is refused here.

    Example:
        >>> check_run_id("nightly-2026.01.31")
        'nightly-2026.01.31'
    """
    if len(run_id) > MAX_RUN_ID:
        raise InvalidNameError("run id", run_id, f"is longer than {MAX_RUN_ID} characters")
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidNameError(
            "run id", run_id, "is not a letter or digit followed by letters, digits, '.', '_', '-'"
        )
    return RunId(run_id)


def _check_text(name: str, what: str, *, edges: bool = True) -> str:
    if not name:
        raise InvalidNameError(what, name, "is empty")
    if len(name) > MAX_NAME:
        raise InvalidNameError(what, name, f"is longer than {MAX_NAME} characters")
    if edges and name != name.strip():
        raise InvalidNameError(what, name, "has a space at one of its ends")
    if any(map(_is_control, name)):
        raise InvalidNameError(what, name, "contains a control character")
    return name


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _is_forbidden(character: str) -> bool:
    return character in _FORBIDDEN_IN_STEP or _is_control(character)
