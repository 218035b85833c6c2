"""The JSON Schemas of pipelines and of configuration files, as they are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

Kind = Literal["pipeline", "configuration"]

FOLDER: Final = Path(__file__).parent
"""Where they lie; `python docs/generate.py` writes them."""


def schema_text(kind: Kind) -> str:
    """The text of a schema, which ends in a newline.

    Example:
        >>> import json
        >>> json.loads(schema_text("pipeline"))["title"]
        'A pipeline of runnable'
    """
    return (FOLDER / f"{kind}.json").read_text(encoding="utf-8")
