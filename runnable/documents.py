"""A YAML or JSON file that holds a mapping, read without trusting it.

YAML is read as its version 1.2 says (the core schema), which JSON is a part of: `yes` and `on` are
text, `0o17` is octal, `12:30` is text, a date is text. Merge keys (`<<`) are understood. A file
whose name ends in `.json` is read by JSON's own rules, and gives no line numbers.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from runnable.defaults import MAX_JSON_DEPTH, MAX_YAML_BYTES
from runnable.exceptions import RunnableError, shortened

if TYPE_CHECKING:
    from yaml.events import CollectionStartEvent, Event, ScalarEvent

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: the keys and list indexes that lead to it."""
ErrorOf: TypeAlias = Callable[[str], RunnableError]
"""Makes the error of a reason, which is the end of a sentence that begins with the file's name."""

_KINDS: Final = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
_OS_REASONS: Final = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "may not be read by this user",
    errno.ENXIO: "is a socket or a device, not a regular file",
}
_TOO_DEEP: Final = f"is nested more than {MAX_JSON_DEPTH} deep"
_TOO_MANY_DIGITS: Final = "holds a number of more digits than Python reads"


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds, and where.

    `lines` has the line (1, 2, 3 …) of each key and list item; it is empty for JSON.
    """

    content: dict[str, Any]
    lines: Mapping[Place, int]

    def line(self, *place: str | int) -> int:
        """The line of that place, or of the nearest one around it; 0 where none is known.

        Example:
            >>> Document({}, {("a",): 1, ("a", "b"): 2}).line("a", "c")
            1
        """
        return next(
            (self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), 0
        )


def read_mapping(path: str, error: ErrorOf) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds; an empty file holds an empty one.

    Args:
        path: The file; at most 1 MiB of UTF-8, nested at most 100 deep.
        error: Makes the exception of a reason such as `"does not exist"`.

    Raises:
        RunnableError: As `error` makes it, if the file is missing, not a regular file, too long,
            not UTF-8, not YAML, has a tag of its own, a key twice or one that is not text, repeats
            more than 1 MiB through aliases, or holds no mapping.
    """
    return read_document(path, error).content


def read_document(path: str, error: ErrorOf) -> Document:
    """The same, with the line of each key."""
    text = read_text(path, error)
    return _parse_json(text, error) if path.endswith(".json") else parse_yaml(text, error)


def parse_yaml(text: str, error: ErrorOf) -> Document:
    """The mapping that YAML text holds, with the line of each key.

    Raises:
        RunnableError: As `error` makes it, for the same reasons as `read_mapping`.

    Example:
        >>> parse_yaml("x: 1\\ny: yes", RunnableError)
        Document(content={'x': 1, 'y': 'yes'}, lines={('x',): 1, ('y',): 2})
    """
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    builder = _Builder(error)
    try:
        # The stubs of PyYAML leave its parameter and result untyped.
        for event in yaml.parse(text, Loader=loader):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            builder.take(cast("Event", event))
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        line = f" (line {mark.line + 1})" if mark else ""
        # PyYAML has a limit of its own from 6.0.4 on, below which ours lies.
        if problem.problem and "nesting depth" in problem.problem:
            raise error(f"{_TOO_DEEP}{line}") from None
        raise error(f"is not valid YAML: {problem.problem}{line}") from None
    except yaml.YAMLError:
        raise error(f"is not valid YAML: it has a control character{_at_control(text)}") from None
    return Document(_mapping(builder.root, error), builder.lines)


def read_text(path: str, error: ErrorOf) -> str:
    """The text of a regular file, at most 1 MiB of UTF-8; what else it is, `error` tells."""
    if "\0" in path:
        raise error("has a null character in its name, so it cannot exist")
    try:
        # Without O_NONBLOCK, opening a FIFO waits for its writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            os.close(handle)
            raise error(f"is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a regular file")
        with os.fdopen(handle, "rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
    except UnicodeEncodeError:
        raise error("has half of a character in its name, so it cannot exist") from None
    except OSError as problem:
        reason = f"cannot be read ({problem.strerror})"
        raise error(_OS_REASONS.get(problem.errno or 0, reason)) from None
    if len(content) > MAX_YAML_BYTES:
        raise error(f"is longer than the {MAX_YAML_BYTES:,} bytes allowed")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error(f"is not UTF-8 text (line {line})") from None


def _at_control(text: str) -> str:
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return f" (line {text.count(chr(10), 0, found.start()) + 1})" if found else ""


def _mapping(content: object, error: ErrorOf) -> dict[str, Any]:
    if not isinstance(content, dict | None):
        found = "a list" if isinstance(content, list) else "a single value"
        raise error(f"holds {found}, not a mapping of names to values")
    return cast("dict[str, Any] | None", content) or {}


def _parse_json(text: str, error: ErrorOf) -> Document:
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise error(f"has the key {shortened(key)} twice")
            content[key] = value
        return content

    def refuse(constant: str) -> float:
        raise error(f"holds {constant}, which JSON does not have")

    if not text.strip():
        return Document({}, {})
    try:
        content = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
        too_deep = _height(content) > MAX_JSON_DEPTH + 1
    except json.JSONDecodeError as problem:
        raise error(f"is not valid JSON: {problem.msg} (line {problem.lineno})") from None
    except RecursionError:
        too_deep, content = True, None
    except RunnableError:
        raise
    except ValueError:
        raise error(_TOO_MANY_DIGITS) from None
    if too_deep:
        raise error(_TOO_DEEP)
    return Document(_mapping(content, error), {})


def _height(content: object) -> int:
    """How many mappings and lists stand in each other, at the deepest place."""
    if isinstance(content, dict):
        return 1 + max(map(_height, cast("dict[str, object]", content).values()), default=0)
    if isinstance(content, list):
        return 1 + max(map(_height, cast("list[object]", content)), default=0)
    return 0


_NODE_SIZE: Final = 10
"""What a node counts for at least where the size of a repetition is measured, in characters."""

_CORE: Final = "tag:yaml.org,2002:"
_WORDS: Final[Mapping[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_DECIMAL: Final = re.compile(r"[-+]?[0-9]+")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def plain_value(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means in YAML 1.2.

    Raises:
        ValueError: If it is an integer of more digits than Python reads.

    Example:
        >>> [plain_value(text) for text in ("1", "1e3", "true", "yes", "~", "12:30", "0o17")]
        [1, 1000.0, True, 'yes', None, '12:30', 15]
    """
    if text in _WORDS:
        return _WORDS[text]
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        number = int(text, 0)
        str(number)  # of more digits than Python writes, it could be shown or stored nowhere
        return number
    return float(text) if _FLOAT.fullmatch(text) else text


@dataclass(slots=True)
class _Anchored:
    """A value that an alias may name: how large it is, how deep it nests."""

    value: Any
    size: int
    height: int


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet; `key` waits for its value."""

    content: dict[str, Any] | list[Any]
    place: Place
    anchor: str | None
    size: int = _NODE_SIZE
    height: int = 1
    key: str | None = None
    merging: bool = False
    merged: list[Any] = field(default_factory=list[Any])


class _Builder:
    """Builds a document from the parser's events, without recursion and with its limits."""

    def __init__(self, error: ErrorOf) -> None:
        self.root: Any = None
        self.lines: dict[Place, int] = {}
        self._error = error
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}
        self._begun = False
        self._repeated = 0

    def take(self, event: Event) -> None:
        from yaml import events

        line = event.start_mark.line + 1
        match event:
            case events.ScalarEvent():
                self._scalar(event, line)
            case events.AliasEvent():
                self._alias(event.anchor or "", line)
            case events.MappingStartEvent():
                self._start(event, "map", line)
            case events.SequenceStartEvent():
                self._start(event, "seq", line)
            case events.CollectionEndEvent():
                self._end(line)
            case events.DocumentStartEvent() if self._begun:
                raise self._error(f"holds more than one document (line {line})")
            case events.DocumentStartEvent():
                self._begun = True
            case _:
                pass

    def _scalar(self, event: ScalarEvent, line: int) -> None:
        text, tag = cast("str", event.value), cast("str | None", event.tag)
        if tag not in (None, "!", f"{_CORE}str"):
            raise self._tag_refused(tag, line)
        plain = tag is None and event.implicit[0]
        if plain and text == "<<" and self._awaits_key():
            self._open[-1].merging = True
        value = self._plain(text, line) if plain else text
        size = max(_NODE_SIZE, len(text))
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, size, 0)
        self._add(value, size, 0, line)

    def _plain(self, text: str, line: int) -> object:
        try:
            return plain_value(text)
        except ValueError:
            raise self._error(f"{_TOO_MANY_DIGITS} (line {line})") from None

    def _tag_refused(self, tag: str, line: int) -> RunnableError:
        return self._error(
            f"has the tag {shortened(tag)} (line {line}), and no tags are read but !!str, !!map "
            f"and !!seq"
        )

    def _alias(self, name: str, line: int) -> None:
        if any(name == outer.anchor for outer in self._open):
            raise self._error(f"has the alias *{name} inside what it names (line {line})")
        if name not in self._anchors:
            raise self._error(f"has the alias *{name}, which nothing before it names (line {line})")
        named = self._anchors[name]
        self._repeated += named.size
        if self._repeated > MAX_YAML_BYTES:
            raise self._error(
                f"repeats more than {MAX_YAML_BYTES:,} characters through aliases (line {line})"
            )
        self._add(_copied(named.value), named.size, named.height, line)

    def _start(self, event: CollectionStartEvent, kind: str, line: int) -> None:
        if event.tag not in (None, "!", f"{_CORE}{kind}"):
            raise self._tag_refused(event.tag, line)
        if self._awaits_key():
            raise self._error(f"has a key that is not text (line {line})")
        if len(self._open) > MAX_JSON_DEPTH:
            raise self._error(f"{_TOO_DEEP} (line {line})")
        self._open.append(_Open({} if kind == "map" else [], self._place(line), event.anchor))

    def _end(self, line: int) -> None:
        closed = self._open.pop()
        for inherited in closed.merged:
            for key, value in inherited.items():
                cast("dict[str, Any]", closed.content).setdefault(key, value)
        if closed.anchor:
            self._anchors[closed.anchor] = _Anchored(closed.content, closed.size, closed.height)
        self._add(closed.content, closed.size, closed.height, line)

    def _awaits_key(self) -> bool:
        outer = self._open[-1] if self._open else None
        return outer is not None and isinstance(outer.content, dict) and outer.key is None

    def _place(self, line: int) -> Place:
        """Where the next value stands; that of a list item is noted with its line."""
        if not self._open:
            return ()
        outer = self._open[-1]
        if isinstance(outer.content, dict):
            return (*outer.place, cast("str", outer.key))
        place = (*outer.place, len(outer.content))
        self.lines.setdefault(place, line)
        return place

    def _add(self, value: Any, size: int, height: int, line: int) -> None:
        if not self._open:
            self.root = value
            return
        outer = self._open[-1]
        if len(self._open) + height > MAX_JSON_DEPTH + 1:
            raise self._error(f"{_TOO_DEEP} (line {line})")
        outer.size += size
        outer.height = max(outer.height, height + 1)
        if isinstance(outer.content, list):
            self._place(line)
            outer.content.append(value)
        elif outer.key is None:
            outer.key = self._key(outer, value, line)
        elif outer.merging:
            outer.merged.extend(self._inherited(value, line))
            outer.key, outer.merging = None, False
        else:
            outer.content[outer.key] = value
            outer.key = None

    def _key(self, outer: _Open, key: object, line: int) -> str:
        if not isinstance(key, str):
            raise self._error(f"has a key that is not text (line {line}): put it in quotes")
        first = self.lines.setdefault((*outer.place, key), line)
        if key in outer.content or (outer.merging and outer.merged):
            lines = f"lines {first} and {line}" if first != line else f"line {line}"
            raise self._error(f"has the key {shortened(key)} twice ({lines})")
        return key

    def _inherited(self, value: object, line: int) -> list[dict[str, Any]]:
        sources = cast("list[object]", value if isinstance(value, list) else [value])
        if not all(isinstance(source, dict) for source in sources):
            raise self._error(f"merges with << what is not a mapping (line {line})")
        return cast("list[dict[str, Any]]", sources)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_copied(inner) for inner in cast("list[Any]", value)]
    return value
