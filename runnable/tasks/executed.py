"""Executed notebooks: what must not be seen in them hidden."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from runnable.masking import Masker

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
"""Colours and whatever else is there for a terminal."""


def without_colours(text: str) -> str:
    r"""The text without what terminals obey.

    Example:
        >>> without_colours("\x1b[0;31mValueError\x1b[0m: \x1b]8;;x\x1b\\boom")
        'ValueError: boom'
    """
    return _ESCAPES.sub("", text)


def masked_notebook(data: bytes, masker: Masker | None) -> bytes:
    """An executed notebook as it is kept: its JSON indented, and secrets masked.

    Args:
        data: Its JSON, each source and output one string.
        masker: What hides the secrets.
    """
    notebook: Any = json.loads(data)
    if masker:
        notebook = _hidden(notebook, masker)
    return json.dumps(notebook, indent=1, ensure_ascii=False).encode(errors="backslashreplace")


def _hidden(value: Any, masker: Masker) -> Any:
    match value:
        case str():
            return _hidden_text(value, masker)
        case list():
            return _hidden_list(cast("list[Any]", value), masker)
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {masker.mask(key): _hidden(one, masker) for key, one in items}
        case _:
            return masker.mask_json(value)


def _hidden_list(values: list[Any], masker: Masker) -> list[Any]:
    """A list, such as a traceback or the lines of a text, across whose parts a secret may stand."""
    if values and all(isinstance(one, str) for one in values):
        for glue in ("", "\n"):
            whole = without_colours(glue.join(values))
            apart = [without_colours(one) for one in values]
            if masker.find(whole) and not any(map(masker.find, apart)):
                return [_hidden_text(glue.join(values), masker)]
    return [_hidden(one, masker) for one in values]


def _hidden_text(text: str, masker: Masker) -> str:
    """A secret may have colours in it: such a text loses all of them."""
    if "\x1b" in text and masker.find(plain := without_colours(text)):
        return masker.mask(plain)
    return masker.mask(text)
