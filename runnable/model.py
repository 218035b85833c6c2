"""The base of what users build: a model whose faults are one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from runnable.exceptions import DefinitionError, RunnableError, shortened

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_WANTED: Final = {
    "Branch": "a Pipeline or an AsyncPipeline; step.as_pipeline() makes one of a step"
}
"""Class → what users know it as."""


class Definition(BaseModel):
    """A pydantic model that refuses unknown fields, and says what is wrong in one sentence."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, defer_build=True
    )

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, /, **fields: Any) -> None:
            """Build it.

            Raises:
                DefinitionError: If a field is unknown, missing or wrong.
            """
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise _in_one_sentence(type(self).__name__, fields, error) from None


def _in_one_sentence(kind: str, fields: dict[str, Any], error: ValidationError) -> RunnableError:
    """Our own error, if a validator of ours raised it; else what pydantic found, as ours."""
    faults = error.errors(include_url=False)
    for fault in faults:
        raised = fault.get("ctx", {}).get("error")
        if isinstance(raised, RunnableError):
            return _about(fault, raised)
    name = fields.get("name")
    what = f"{kind} {shortened(name)}" if isinstance(name, str) and name else kind
    told = "; ".join(f"{_place(fault['loc'])}{_reason(fault)}" for fault in faults[:5])
    return _about(faults[0], DefinitionError(f"{what}: {told}."))


def _about(fault: ErrorDetails, error: RunnableError) -> RunnableError:
    """The error, which notes the field that it is about."""
    if isinstance(error, DefinitionError) and fault["loc"]:
        error.field = str(fault["loc"][0])
    return error


def _place(location: tuple[int | str, ...]) -> str:
    return f"{location[0]} – " if location else ""


def _reason(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] == "is_instance_of" and (wanted := _WANTED.get(fault["ctx"]["class"])):
        return f"should be {wanted} (found one {type(fault['input']).__name__})"
    given = shortened(repr(fault["input"])) if fault["type"] != "is_instance_of" else ""
    message: str = fault["msg"].removeprefix("Value error, ").removesuffix(".")
    return f"{message[0].lower()}{message[1:]}{f' (found {given[1:-1]})' if given else ''}"
