"""A TOML text that holds a mapping, with the line of each key, which `tomllib` does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final, cast

from runnable.defaults import MAX_JSON_DEPTH
from runnable.documents import Document, ErrorOf, Place

_TOO_DEEP: Final = f"is nested more than {MAX_JSON_DEPTH} deep"
_TOKEN: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}'  # texts over several lines
    r'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\''
    r"|\#[^\n]*|\n|[\[\]{}=.,]|[A-Za-z0-9_-]+|[^\S\n]+|.",
    re.DOTALL,
)
_MENTION: Final = re.compile(
    r"""^[ \t]*\[?[ \t]*["']?tool["']?[ \t]*(\]|=|\.[ \t]*["']?runnable\b)""", re.MULTILINE
)


def parse_toml(text: str, error: ErrorOf) -> Document:
    r"""The mapping that TOML text holds, with the line of each key that does not stand in a value.

    Dates and times are text, as in YAML.

    Raises:
        RunnableError: As `error` makes it, if it is not TOML, or nested more than 100 deep.

    Example:
        >>> from runnable.exceptions import RunnableError
        >>> parse_toml("[a]\nb = 1 # one\n", RunnableError)
        Document(content={'a': {'b': 1}}, lines={('a',): 1, ('a', 'b'): 2})
    """
    import tomllib

    _check_keys(text, error)
    try:
        content = cast("dict[str, Any]", _plain(tomllib.loads(text), 0, error))
    except tomllib.TOMLDecodeError as problem:
        raise error(_reason(str(problem), text)) from None
    except RecursionError:
        raise error(_TOO_DEEP) from None
    except ValueError as problem:
        if "digits" not in str(problem):
            raise
        raise error("holds a number of more digits than Python reads") from None
    return Document(content, lines_of(text))


def mentions_runnable(text: str) -> bool:
    """Whether a `pyproject.toml` may have a table `tool.runnable`, seen without parsing it.

    Example:
        >>> mentions_runnable("[tool.runnable]"), mentions_runnable("[tool.other]")
        (True, False)
    """
    return "runnable" in text and _MENTION.search(text) is not None


def lines_of(text: str) -> dict[Place, int]:
    """The line (1, 2, 3 …) of each key of valid TOML; one within a value is not looked for."""
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    for line, statement in _statements(text):
        header = 2 if statement[:2] == ["[", "["] else int(statement[0] == "[")
        key = _key(statement[header:], "]" if header else "=")
        place = key if header else table + key
        start = 0 if header else len(table)
        for end in range(start + 1, len(place) + 1):
            lines.setdefault(place[:end], line)
        if header == 2:
            place = (*key, counts.get(key, 0))
            counts[key] = counts.get(key, 0) + 1
            lines[place] = line
        if header:
            table = place
    return lines


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each table header, and each key with its value, as tokens; and the line it begins in."""
    line, begun, depth = 1, 1, 0
    statement: list[str] = []
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token == "\n" and depth == 0 and statement:
            yield begun, statement
            statement = []
        elif not token.isspace() and not token.startswith("#"):
            if not statement:
                begun = line
            statement.append(token)
            depth += (token in ("[", "{")) - (token in ("]", "}"))
        line += token.count("\n")
    if statement:
        yield begun, statement


def _key(tokens: list[str], end: str) -> Place:
    """The parts of a dotted key."""
    parts: list[str] = []
    for token in tokens:
        if token == end:
            break
        if token == ".":
            continue
        parts.append(_unquoted(token))
    return tuple(parts)


def _unquoted(token: str) -> str:
    if token.startswith("'"):
        return token[1:-1]
    if token.startswith('"'):
        import tomllib

        return str(tomllib.loads(f"key = {token}")["key"])
    return token


def _plain(value: object, depth: int, error: ErrorOf) -> object:
    """The value with dates and times as text."""
    if depth > MAX_JSON_DEPTH:
        raise error(_TOO_DEEP)
    if isinstance(value, dict):
        mapping = cast("dict[str, object]", value)
        return {key: _plain(inner, depth + 1, error) for key, inner in mapping.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1, error) for inner in cast("list[object]", value)]
    return value.isoformat() if isinstance(value, date | datetime | time) else value


def _check_keys(text: str, error: ErrorOf) -> None:
    """Refuse a dotted key of very many parts: `tomllib` takes time by their square."""
    dots = line = 0
    for found in _TOKEN.finditer(text):
        token = found[0]
        line += token.count("\n")
        if token == ".":
            dots += 1
            if dots > MAX_JSON_DEPTH:
                raise error(f"{_TOO_DEEP} (line {line + 1})")
        elif token in "[]{}=,\n":
            dots = 0


def _reason(message: str, text: str) -> str:
    """What `tomllib` says, with the line as our other errors have it."""
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = text.rstrip().count("\n") + 1
    if found:
        message, line = message[: found.start()], int(found[1] or line)
    if "nested more than" in message:  # later versions of Python have a limit of their own
        return _TOO_DEEP
    if message == "Cannot overwrite a value":
        return f"has a key twice (line {line})"
    return f"is not valid TOML: {message[:1].lower()}{message[1:]} (line {line})"
