"""A pipeline read from YAML: its steps built as the SDK's."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from runnable.defaults import ON_FAILURE
from runnable.exceptions import listed, nearest, shortened
from runnable.graph import FAIL, SUCCESS
from runnable.nodes.composite import EACH
from runnable.nodes.conditional import default_name
from runnable.sdk.composites import End, Fail, Success
from runnable.sdk.definition.kinds import DEFAULT_COMMAND_TYPE, STEPS, TASK, TASKS, keys_of
from runnable.sdk.definition.links import Links
from runnable.sdk.definition.source import Here, Source
from runnable.sdk.definition.values import READ
from runnable.sdk.fields import PythonFields
from runnable.sdk.pipeline import Pipeline
from runnable.sdk.step import Branch, Step

AnyPipeline = TypeVar("AnyPipeline", bound=Branch)

_ENDS: Final[Mapping[str, type[Step]]] = {SUCCESS: Success, FAIL: Fail}


def read_pipeline(source: str | os.PathLike[str], kind: Callable[..., AnyPipeline]) -> AnyPipeline:
    """The pipeline that a YAML or JSON file, or a text, describes.

    Args:
        source: The path of a file; or text: what has more than one line, or begins as a pipeline
            does.
        kind: The class of the pipeline.

    Raises:
        PipelineFileError: If it cannot be read, or makes no pipeline.
    """
    read, top = Source.of(source), Here((), "")
    content = read.document.content
    for key in content:
        if key != "dag":
            read.fail(top.at(key), f"there is no key {shortened(key)} here (there is: dag)")
    if "dag" not in content:
        read.fail(top, "it needs the key 'dag', which holds the pipeline")
    return _read(read, kind, content["dag"], top.at("dag"))


def _read(
    source: Source, kind: Callable[..., AnyPipeline], content: object, here: Here
) -> AnyPipeline:
    """A pipeline: the whole one, or that of a branch, which may stand in a `dag`."""
    inner = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    within = bool(here.path) and [*inner] == ["dag"]
    place = here.at("dag") if within else here
    given = source.validated(
        Pipeline, inner["dag"] if within else cast("object", content), place, "a pipeline"
    )
    return _Dag(source, kind, place, given).pipeline()


class _Dag(Generic[AnyPipeline]):
    """The steps of one pipeline; each is built once, though it may stand in several ways."""

    def __init__(
        self,
        source: Source,
        kind: Callable[..., AnyPipeline],
        here: Here,
        given: Mapping[str, Any],
    ) -> None:
        self._source = source
        self._kind = kind
        self._here = here
        self._given = given
        steps: Mapping[str, object] = given["steps"]
        self._steps = {name: self._checked(name, content) for name, content in steps.items()}
        self._built: dict[str, Step | None] = {}
        self._sizes: dict[str, int] = {}
        if not steps:
            source.fail(here.at("steps"), "steps is empty; give it at least one step")
        self._links = self._linked()

    def pipeline(self) -> AnyPipeline:
        """The pipeline, with the settings that stand beside its steps."""
        keys = keys_of(Pipeline)
        settings = {keys[key]: value for key, value in self._given.items() if key in keys}
        return self._made([self._step(name) for name in self._links.main], settings)

    def _made(self, steps: Sequence[Step], settings: Mapping[str, Any]) -> AnyPipeline:
        with self._source.told(self._here, keys_of(Pipeline)):
            return self._kind(**settings, steps=steps)

    def _checked(self, name: str, content: object) -> tuple[type[Step], dict[str, Any]]:
        """The class of a step, and its keys without those that name the class."""
        here = self._here.step(name)
        self._source.steps.setdefault(here.path, here)
        kinds = [TASK, *STEPS]
        if not isinstance(content, dict):
            self._source.fail(here, f"a step is a mapping with a type ({', '.join(kinds)})")
        keys = dict(cast("dict[str, Any]", content))
        kind = self._named("type", keys, kinds, here)
        if kind == TASK:
            command_type = self._named("command_type", keys, [*TASKS], here)
            step, what = TASKS[command_type], f"a task of the type {command_type!r}"
        else:
            step, what = STEPS[kind], f"a step of the type {kind!r}"
        if name in _ENDS and step is not _ENDS[name]:
            reason = f"a step is named {name!r}, as the pipeline's own end is. Choose another name"
            self._source.fail(here, reason)
        return step, self._source.validated(step, keys, here, what)

    def _named(self, key: str, keys: dict[str, Any], known: list[str], here: Here) -> str:
        if key == "type" and key not in keys:
            self._source.fail(here, f"it needs a type (there are: {', '.join(known)})")
        name = keys.pop(key, DEFAULT_COMMAND_TYPE)
        if name not in known:
            there = ", ".join(nearest(str(name), known))
            what = f"{key} is {shortened(str(name))}, which is not known (there are: {there})"
            self._source.fail(here.at(key), what)
        return name

    def _linked(self) -> Links:
        names = [*self._steps]
        given = {name: keys for name, (_, keys) in self._steps.items()}
        arrows = {name: keys["next"] for name, keys in given.items() if keys.get("next")}
        failures = {
            name: keys["on_failure"]
            for name, keys in given.items()
            if isinstance(keys.get("on_failure"), str)
        }
        start_at = self._given.get("start_at", "")
        for key, named in (("next", arrows), ("on_failure", failures)):
            for name, target in named.items():
                self._must_exist(target, key, self._here.step(name).at(key))
        if start_at:
            self._must_exist(start_at, "start_at", self._here.at("start_at"))
        links = Links.of(names, arrows, self._ends(), failures, start_at)
        self._check(links, start_at)
        return links

    def _ends(self) -> dict[str, str]:
        ends: dict[str, str] = {}
        for name, (step, keys) in self._steps.items():
            if issubclass(step, End):
                ends[name] = ""
            elif keys.get("terminate_with_failure"):
                ends[name] = FAIL
            elif keys.get("terminate_with_success"):
                ends[name] = SUCCESS
        return ends

    def _must_exist(self, target: str, key: str, here: Here) -> None:
        if target not in self._steps and target not in _ENDS:
            known = dict.fromkeys([*self._steps, SUCCESS, FAIL])
            there = listed(nearest(target, known))
            reason = f"{key} is {shortened(target)}, and there is no such step (there are: {there})"
            self._source.fail(here, reason)

    def _check(self, links: Links, start_at: str) -> None:
        """Check that the steps make one way, and that it starts where it should."""
        if circle := links.circle():
            reason = f"the steps go round in a circle: {listed(circle, ' → ')}. Use a loop"
            self._source.fail(self._here.step(circle[0]), reason)
        if not links.main:
            reason = "each step is the on_failure of one. Say with start_at which is the first"
            self._source.fail(self._here, reason)
        start = start_at or links.start
        way = set(links.way(start))
        for name in links.main:
            if name not in way and not issubclass(self._steps[name][0], End):
                reason = (
                    f"no step leads to it from {start!r}, where the pipeline starts. Name it as "
                    f"the next of one, or remove it"
                )
                self._source.fail(self._here.step(name), reason)

    def _step(self, name: str) -> Step:
        here = self._here.step(name)
        if name in self._built:
            built = self._built[name]
            if built is None:
                reason = "what runs when it fails leads back to it. Let that end in other steps"
                self._source.fail(here.at("on_failure"), reason)
            self._source.count(here, self._sizes[name])
            return built
        self._built[name] = None
        before = self._source.counted
        self._source.count(here, 1)
        with self._source.nested(here):
            self._built[name] = step = self._new(name, here)
        self._sizes[name] = self._source.counted - before
        return step

    def _new(self, name: str, here: Here) -> Step:
        kind, keys = self._steps[name]
        fields = {key: field for key, field in keys_of(kind).items() if key in keys}
        values: dict[str, Any] = {
            field: self._value(key, field, keys, here) for key, field in fields.items()
        }
        if keys.get("max_attempts") is not None:
            values["retries"] = self._retries(keys, here)
        with self._source.told(here, fields):
            step = kind(name=name, **values)
        if isinstance(step, PythonFields):
            step.found_at(keys["command"])
        return step

    def _retries(self, keys: Mapping[str, Any], here: Here) -> int:
        if "retries" in keys:
            reason = "max_attempts is another word for retries + 1: give one of the two"
            self._source.fail(here.at("max_attempts"), reason)
        return keys["max_attempts"] - 1

    def _value(self, key: str, field: str, keys: Mapping[str, Any], here: Here) -> object:
        """What a field of a step is given for the value of its key."""
        value = keys[key]
        pipeline = partial(_read, self._source, self._kind)
        if value is None:
            return None
        match field:
            case "on_failure" if isinstance(value, str):
                return self._made(self._way(value), {})
            case "on_failure":
                return pipeline(value, here.branch(ON_FAILURE, key))
            case "branch":
                return pipeline(value, here.branch(EACH, key))
            case "branches":
                named = cast("dict[str, object]", value)
                return {n: pipeline(one, here.branch(n, key, n)) for n, one in named.items()}
            case "default":
                return pipeline(value, here.branch(default_name(keys.get("branches", ())), key))
            case _ if field in READ:
                with self._source.told(here.at(key), {}):
                    return READ[field](value)
            case _:
                return value

    def _way(self, start: str) -> list[Step]:
        """What runs when a step fails that names another: that one, and those that follow it."""
        if start not in self._steps:
            return [_ENDS[start](name=start)]
        return [self._step(name) for name in self._links.way(start) if name in self._steps]
