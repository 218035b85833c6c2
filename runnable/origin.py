"""Where the pipeline of a run comes from: what the command line was given, or which script ran."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from pydantic_core import to_json

Kind = Literal["yaml", "module", "script", "session"]

PURPOSE: Final = "the origin of a run"
"""What its keyed digest says it is, where that of a pickle says its name."""
_KINDS: Final[tuple[Kind, ...]] = ("yaml", "module", "script", "session")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a run was begun with.

    Args:
        kind: A YAML file, `module:attribute`, a script, or a session or server of no such name.
        target: The file's path, `module:attribute`, the script's path, or `-m` and its module.
        arguments: Whether the script was given some. They are not kept: they may hold secrets.
        mac: The keyed digest of the above and of the run; empty if nobody vouches for it.

    Example:
        >>> Origin("module", "shop.orders:pipeline").is_target
        True
    """

    kind: Kind
    target: str = ""
    arguments: bool = False
    mac: str = ""

    def __post_init__(self) -> None:
        # A path may hold bytes that are no text, which no JSON can hold.
        text = self.target.encode("utf-8", "backslashreplace").decode()
        object.__setattr__(self, "target", text)

    @classmethod
    def of_process(cls, folder: Path) -> Origin:
        """The script that this process runs.

        Args:
            folder: The current one: a path in it is kept relative to it.
        """
        main = sys.modules.get("__main__")
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        arguments = len(sys.argv) > 1
        if spec is not None and spec.name != "__main__":
            return cls("script", f"-m {spec.name.removesuffix('.__main__')}", arguments)
        if not file:
            return cls("session")
        path = Path(file)
        is_inside = path.is_relative_to(folder)
        return cls("script", str(path.relative_to(folder) if is_inside else path), arguments)

    @classmethod
    def of(cls, stored: object) -> Origin:
        """The origin that a record holds; a kind of a later version says nothing."""
        fields = cast("dict[str, Any]", stored) if isinstance(stored, dict) else {}
        kind, target, mac = (fields.get(name) for name in ("kind", "target", "mac"))
        if kind not in _KINDS or not isinstance(target, str):
            return cls("session")
        return cls(kind, target, bool(fields.get("arguments")), mac if isinstance(mac, str) else "")

    @property
    def is_target(self) -> bool:
        """Whether the command line can run it again."""
        return self.kind in ("yaml", "module")

    def fields(self) -> dict[str, Any]:
        """What a record holds of it."""
        given = {"arguments": self.arguments, "mac": self.mac}
        said = {name: value for name, value in given.items() if value}
        return {"kind": self.kind, "target": self.target, **said}

    def vouched(self) -> bytes:
        """What the keyed digest is made over, beside the run."""
        return to_json([self.kind, self.target])

    def signed(self, mac: str) -> Origin:
        """It with its keyed digest."""
        return replace(self, mac=mac)
