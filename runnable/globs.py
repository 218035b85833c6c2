"""Which names a pattern stands for, relative to a folder that it never leaves."""

from __future__ import annotations

import re
from functools import lru_cache

from runnable.exceptions import DefinitionError, shortened


def checked_pattern(pattern: str) -> str:
    """A glob that stays in its folder, without what means nothing (`./a//b` is `a/b`).

    Raises:
        DefinitionError: If it is empty, absolute, leads out of the folder, or cannot be a name.

    Example:
        >>> checked_pattern("./data//**/*.csv")
        'data/**/*.csv'
    """
    shown = shortened(pattern)
    if pattern.startswith("/"):
        raise DefinitionError(
            f"The pattern {shown} is absolute. Write it relative to the catalog's "
            f"compute_data_folder."
        )
    if pattern.endswith("/"):
        raise DefinitionError(
            f"The pattern {shown} names a folder. Write {shortened(f'{pattern}**')} for the files "
            f"in it."
        )
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    before = ["", *parts]
    parts = [
        part for part, last in zip(parts, before, strict=False) if part != "**" or last != "**"
    ]
    if ".." in parts:
        raise DefinitionError(
            f"The pattern {shown} leads out of its folder with '..'. Set the catalog's "
            f"compute_data_folder to a folder that holds all files."
        )
    if not parts:
        raise DefinitionError(f"The pattern {shown} names no file.")
    if any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in pattern):
        raise DefinitionError(f"The pattern {shown} has a character that no name may have.")
    return "/".join(parts)


def is_literal(pattern: str) -> bool:
    """Whether a pattern is one name, and no glob."""
    return not any(one in pattern for one in "*?[")


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one of those that a pattern stands for.

    `*`, `?` and `[…]` stand for parts of one name and not for a dot at its beginning; `**` stands
    for any number of folders.

    Example:
        >>> [matches("data/**/*.csv", name) for name in ("data/a.csv", "data/b/c.csv", "a.csv")]
        [True, True, False]
    """
    return _compiled(pattern).match(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    *folders, last = pattern.split("/")
    begun = "".join(r"(?:(?!\.)[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in folders)
    end = r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+" if last == "**" else _part(last)
    return re.compile(f"{begun}{end}\\Z", re.DOTALL)


def _part(part: str) -> str:
    """The regular expression of one part of a glob."""
    written, at = [] if part.startswith(".") or is_literal(part) else [r"(?!\.)"], 0
    while at < len(part):
        one, end = part[at], part.find("]", at + 2)
        if one == "[" and end > 0:
            inside = part[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            negated = inside.startswith("!")
            written.append(f"(?!/)[{'^' if negated else ''}{_escaped_caret(inside[negated:])}]")
            at = end
        else:
            written.append({"*": "[^/]*", "?": "[^/]"}.get(one) or re.escape(one))
        at += 1
    return "".join(written)


def _escaped_caret(inside: str) -> str:
    return f"\\{inside}" if inside.startswith(("^", "]")) else inside
