"""YAML text of plain values, which our reader takes for the same values."""

from __future__ import annotations

import re
from typing import Any, Final, cast

import yaml

from runnable.documents import plain_value

_BREAKS: Final = re.compile(r"[\n\r\x85\u2028\u2029]")
_BLOCK: Final = re.compile(r"[!-~][ -~]*(\n+([ -~]*[!-~])?)*")
"""Text that is written line by line, as it is; any other goes into quotes."""


def yaml_of(content: dict[str, Any]) -> str:
    """The content as YAML: mappings in blocks, lists in one line, in the order that they have.

    Example:
        >>> print(yaml_of({"first": ["yes", "1e3", 1], "text": "one\\ntwo"}), end="")
        first: ['yes', '1e3', 1]
        text: |-
          one
          two
    """
    written: Any = yaml.dump(  # pyright: ignore[reportUnknownMemberType]
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return cast("str", written)


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.2 means: PyYAML knows 1.1, which takes other words for numbers."""

    def ignore_aliases(self, data: object) -> bool:
        """No value is written as a reference to another."""
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        """Text: in quotes where it would be read as something else."""
        style = None if _is_text(data) else "'"
        if _BREAKS.search(data):  # what is in single quotes, or in none, is folded there
            style = "|" if _BLOCK.fullmatch(data) else '"'
        represent = cast("Any", self).represent_scalar
        return represent("tag:yaml.org,2002:str", data, style=style)

    def mapping(self, data: dict[str, Any]) -> yaml.MappingNode:
        """A mapping, a key a line."""
        return self.represent_mapping("tag:yaml.org,2002:map", data, flow_style=False)

    def sequence(self, data: list[Any]) -> yaml.SequenceNode:
        """A list, in one line."""
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


_Dumper.add_representer(str, _Dumper.text)
_Dumper.add_representer(dict, _Dumper.mapping)
_Dumper.add_representer(list, _Dumper.sequence)


def _is_text(data: str) -> bool:
    try:
        return isinstance(plain_value(data), str)
    except ValueError:  # an integer of very many digits
        return False
