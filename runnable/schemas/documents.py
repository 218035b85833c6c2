"""What the source says of the fields of a class: the text under each, and under `Args:`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from itertools import pairwise
from textwrap import dedent

from pydantic import BaseModel


def documents_of(model: type[BaseModel]) -> Mapping[str, str]:
    """Field → what its class, or a base of it, says of it; read from the source.

    Example:
        >>> from runnable.backoff import Backoff
        >>> documents_of(Backoff)["first"]
        'Seconds before the second attempt.'
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _arguments(inspect.getdoc(kind) or "") if "__doc__" in vars(kind) else {}
            found |= _under_fields(kind)
    return {name: text for name, text in found.items() if name in model.model_fields}


def summary_of(thing: type) -> str:
    """What a class says of itself first."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _arguments(text: str) -> dict[str, str]:
    """Name → text, of the lines under `Args:`."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE)
    if section is None:
        return {}
    parts = re.findall(r"^(\w+): ((?:.*\n?)(?: +.*\n?)*)", dedent(section[1]), re.MULTILINE)
    return {name: " ".join(told.split()) for name, told in parts}


def _under_fields(kind: type) -> dict[str, str]:
    """Field → the text that stands under it in the body of the class."""
    (body,) = ast.parse(dedent(inspect.getsource(kind))).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    found: dict[str, str] = {}
    for field, text in pairwise(statements):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(told))):
                    found[field.target.id] = " ".join(told.split())
                case _:
                    pass
    return found
