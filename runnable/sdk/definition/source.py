"""What a pipeline is read from: a file or a text, and the errors about its places."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from pydantic import ValidationError
from pydantic_core import to_json

from runnable.defaults import MAX_PATH_DEPTH, MAX_YAML_BYTES
from runnable.documents import Document, Place, parse_yaml, read_document
from runnable.exceptions import (
    CheckError,
    DefinitionError,
    PipelineFileError,
    RunnableError,
    listed,
    nearest,
    shortened,
)
from runnable.model import Definition
from runnable.sdk.definition.kinds import PARTS, document_of, tag_of
from runnable.sdk.step import Step

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_TEXT: Final = re.compile(r"\s*(\{|dag\s*:|\"dag\"|'dag'|---|%YAML|#|$)")
MAX_STEPS: Final = 100_000
"""A file of 1 MiB without repetition has fewer."""
_MAX_FILE_NAME: Final = 4_096
_LINE: Final = re.compile(r" \(lines? (?:\d+ and )?(\d+)\)")


class Here(NamedTuple):
    """What is read now: where it stands in the document, and its path in the pipeline."""

    place: Place
    path: str

    def at(self, *keys: str | int) -> Here:
        return Here((*self.place, *keys), self.path)

    def step(self, name: str) -> Here:
        path = f"{self.path}.{name}" if self.path else name
        return Here((*self.place, "steps", name), path)

    def branch(self, name: str, *keys: str) -> Here:
        return Here((*self.place, *keys), f"{self.path}.{name}")


@dataclass
class Source:
    """A document, and where in it the steps stand."""

    file: str
    """Its path; empty for text."""
    document: Document
    steps: dict[str, Here] = field(default_factory=dict[str, Here])
    """Path → where the step stands."""
    counted: int = 0
    """How many steps were built, each as often as `on_failure` repeats it."""
    depth: int = 0
    """How many segments of a path stand before the steps that are built now."""

    @classmethod
    def of(cls, source: str | os.PathLike[str]) -> Source:
        """The document of a file, or of text.

        Raises:
            PipelineFileError: If it cannot be read.
        """
        return cls(*_document(source))

    def fail(self, here: Here, reason: str, cause: BaseException | None = None) -> NoReturn:
        """Raise the error about a place."""
        line = self.document.line(*here.place)
        raise PipelineFileError(self.file, line, here.path, reason) from cause

    def count(self, here: Here, steps: int) -> None:
        """Count steps of the pipeline, and refuse it when they are too many to be held.

        Only an `on_failure` that names a step repeats some, and each of those may repeat others.
        """
        self.counted += steps
        if self.counted > MAX_STEPS:
            reason = (
                f"the pipeline comes to more than {MAX_STEPS:,} steps, those counted that an "
                f"on_failure repeats. Let fewer steps name one"
            )
            self.fail(here, reason)

    @contextmanager
    def nested(self, here: Here) -> Generator[None]:
        """Hold a step in which others may stand, and refuse one that stands too deep."""
        if self.depth + 1 > MAX_PATH_DEPTH:
            reason = (
                f"this step stands {self.depth + 1} segments deep, deeper than the "
                f"{MAX_PATH_DEPTH} allowed. Nest pipelines, and what runs when a step fails, less"
            )
            self.fail(here, reason)
        self.depth += 2  # its own name, and that of its branch
        try:
            yield
        finally:
            self.depth -= 2

    @contextmanager
    def told(self, here: Here, keys: Mapping[str, str]) -> Generator[None]:
        """Tell of what is wrong with something built of a mapping with its line."""
        try:
            yield
        except PipelineFileError:
            raise
        except CheckError as error:
            first = error.findings[0].step
            path = f"{here.path}.{first}" if here.path else first
            self.fail(self.steps.get(path, here), str(error), error)
        except RunnableError as error:
            name = error.field if isinstance(error, DefinitionError) else ""
            key = next((key for key, field in keys.items() if field == name), None)
            self.fail(here if key is None else here.at(key), str(error), error)

    def validated(
        self, kind: type[Definition], content: object, here: Here, what: str
    ) -> dict[str, Any]:
        """The mapping, if its keys are those of that kind and its values of their types."""
        if not isinstance(content, dict):
            article = "empty" if content is None else f"a {tag_of(content)}"
            self.fail(here, f"it is {article}, and should be a mapping: {what}")
        mapping = cast("dict[str, Any]", content)
        try:
            document_of(kind).model_validate_json(to_json(mapping, inf_nan_mode="constants"))
        except ValidationError as error:
            faults = error.errors(include_url=False)
            # A key that is missing may be the one that is there under a wrong name.
            fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
            place = _inside(mapping, fault["loc"])
            self.fail(here.at(*place), _reason(fault, place, kind, what))
        return mapping


def _document(source: str | os.PathLike[str]) -> tuple[str, Document]:
    is_text = isinstance(source, str) and ("\n" in source or _TEXT.match(source + " "))
    file = "" if is_text else os.fsdecode(source)

    def error(reason: str) -> PipelineFileError:
        line = _LINE.search(reason)
        told = reason if line is None or " and " in line[0] else reason.replace(line[0], "")
        return PipelineFileError(file, int(line[1]) if line else 0, "", f"it {told}")

    if len(file) > _MAX_FILE_NAME:
        reason = (
            "it is no file's name, which is shorter, and does not begin as YAML with a dag does"
        )
        raise PipelineFileError(shortened(file), 0, "", reason)
    if not is_text:
        return file, read_document(file, error)
    text = cast("str", source)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise error("has half of a character, a lone surrogate") from None
    if size > MAX_YAML_BYTES:
        raise error(f"is longer than the {MAX_YAML_BYTES:,} bytes allowed")
    return file, parse_yaml(text, error)


def _inside(content: object, location: tuple[int | str, ...]) -> Place:
    """What of pydantic's location is a place in the content: it names kinds of values, too."""
    place: list[int | str] = []
    for part in location:
        if isinstance(content, dict) and part in content:
            content = cast("dict[object, object]", content)[part]
        elif isinstance(content, list) and isinstance(part, int):
            content = cast("list[object]", content)[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _reason(fault: ErrorDetails, place: Place, kind: type[Definition], what: str) -> str:
    """What is wrong, and what there is instead."""
    raised = fault.get("ctx", {}).get("error")
    if isinstance(raised, RunnableError):
        return str(raised)
    key = ".".join(map(str, place))
    match fault["type"]:
        case "extra_forbidden":
            inner, known = [*place[:-1]], _known(kind, place[:-1])
            whose = ".".join(map(str, inner)) or what
            near = listed(nearest(str(place[-1]), known))
            return f"there is no key {shortened(str(place[-1]))} in {whose} (there are: {near})"
        case "missing":
            return f"{key or what} needs the key {str(fault['loc'][-1])!r}"
        case "string_pattern_mismatch" if key == "cache":
            return f"cache is {fault['input']!r}; a time is a number of seconds, or as 1h30m or 7d"
        case "union_tag_invalid":
            tags = fault.get("ctx", {}).get("expected_tags", "").replace("'", "").split(", ")
            return f"{key} is a {tag_of(fault['input'])}; it should be {' or '.join(tags)}"
        case _:
            message = fault["msg"].removeprefix("Input ").removeprefix("Value error, ")
            found = shortened(to_json(fault["input"], inf_nan_mode="constants").decode())
            return f"{key or what} {message[:1].lower()}{message[1:]} (it is {found[1:-1]})"


def _known(kind: type[Definition], place: Place) -> list[str]:
    """The keys that there are at a place in the mapping of that kind."""
    part = kind if not place else PARTS.get(str(place[0]), kind)
    named = ["type"] if issubclass(part, Step) else []
    return [*named, *document_of(part).model_fields]
