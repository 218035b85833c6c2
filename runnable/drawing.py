"""A graph as a picture: its steps, and the states of a run, as Mermaid, as DOT and as SVG.

Names are any text, and are never taken for markup: things have ids of our own (`n0`, `n1`, …), and
names stand in labels alone, escaped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cached_property
from tempfile import TemporaryFile
from typing import Final

from runnable.defaults import CANCELLED, FAIL, INTERRUPTED, MIB, RUNNING, SUCCESS
from runnable.outline import WAITING, WORST_FIRST, Box, Frame, Outline, Part, Structure, walk
from runnable.showing import printable

MAX_DRAWN: Final = 300
"""Steps, ends and frames of a picture that is shown unasked, and of one that is made an SVG."""
DOT_SECONDS: Final = 5.0
MAX_SVG_BYTES: Final = 2 * MIB


class Picture:
    """The steps of a graph, and what became of them, to be drawn.

    Args:
        structure: The graph's, as `Graph.structure` and `RunLog.structure` hold it.
        states: Path of a step in a run → its status; without it no states are drawn. What ran once
            per item or iteration is counted.

    Example:
        >>> steps = {"a": {"type": "stub", "next": "success"}}
        >>> print(Picture({"start_at": "a", "steps": steps}).mermaid())
        flowchart TD
            n0("a")
            n1(["success"])
            n0 --> n1
    """

    def __init__(self, structure: Structure, states: Mapping[str, str] | None = None) -> None:
        self._structure, self._states = structure, states

    @cached_property
    def _outline(self) -> Outline:
        return Outline(self._structure, self._states)

    @property
    def small(self) -> bool:
        """Whether it holds something, and not more than people look at: 300 things."""
        return 0 < self._outline.count <= MAX_DRAWN

    def mermaid(self) -> str:
        """As a flowchart of Mermaid."""
        return "\n".join(["flowchart TD", *(f"    {one}" for one in _mermaid(self._outline))])

    def dot(self) -> str:
        """As a graph of Graphviz."""
        return "\n".join(
            ["digraph pipeline {", *(f"    {one}" for one in _dot(self._outline)), "}"]
        )

    def svg(self) -> str:
        """As SVG; empty if it is not `small`, or if Graphviz's `dot` is missing or fails."""
        return self._svg

    @cached_property
    def _svg(self) -> str:
        return _drawn_by_graphviz(self.dot()) if self.small else ""


def _mermaid(outline: Outline) -> Iterator[str]:
    yield from _mermaid_parts(outline.parts)
    for edge in outline.edges:
        arrow = "-.->" if edge.dashed else "-->"
        label = f'|"{_in_mermaid(edge.label)}"| ' if edge.label else ""
        yield f"{edge.tail.last} {arrow} {label}{edge.head.first}"
    for frame in walk(outline.parts):
        if isinstance(frame, Frame):
            yield from (f"{tail} --> {head}" for tail, head in _joints(frame))
    yield from _mermaid_classes(outline)


def _mermaid_classes(outline: Outline) -> Iterator[str]:
    members: dict[str, list[str]] = {}
    for part in walk(outline.parts):
        looks = _frame_looks(part) if isinstance(part, Frame) else [part.state]
        for look in looks:
            if look and (look in _COLOURS or look in _FRAMES):
                members.setdefault(look, []).append(part.id)
    for look, ids in members.items():
        if look in _COLOURS:
            fill, stroke, text = _COLOURS[look]
            yield f"classDef {look} fill:{fill},stroke:{stroke},color:{text}"
        else:
            yield f"classDef {look} {_FRAMES[look]}"
        yield f"class {','.join(ids)} {look}"


def _mermaid_parts(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        lines = map(_in_mermaid, part.lines)
        if isinstance(part, Box):
            opening, closing = _MERMAID_SHAPES[part.shape]
            yield f'{part.id}{opening}"{"<br>".join(lines)}"{closing}'
            continue
        yield f'subgraph {part.id}["{" · ".join(lines)}"]'  # there is room for one line
        inner = [*_mermaid_parts(part.parts), *(f"{joint}(( ))" for joint in _joint_ids(part))]
        yield from (f"    {line}" for line in inner)
        yield "end"


def _joint_ids(frame: Frame) -> list[str]:
    """What stands for the beginning and the end of a frame that has several."""
    return [frame.first] * frame.forks + [frame.last] * frame.joins


def _joints(frame: Frame) -> Iterator[tuple[str, str]]:
    """Which boxes are joined by these."""
    if frame.forks:
        yield from ((frame.first, part.first) for part in frame.firsts)
    if frame.joins:
        yield from ((part.last, frame.last) for part in frame.lasts)


def _frame_looks(frame: Frame) -> list[str]:
    """The classes of a frame: a colour of its border, so that what stands inside is seen."""
    return ["aside"] * frame.aside + [f"{frame.state}Frame"] * bool(frame.state)


def _in_mermaid(text: str) -> str:
    """The text for a label in quotes: all that Mermaid might take for its own by its number.

    It looks for words of its language in quotes too: a direction, a style. And it has two marks of
    its own for entities, which are told apart by something that takes no room.
    """
    coded = _MERMAIDS_OWN.sub(lambda found: f"#{ord(found[0])};", printable(text))
    return _MERMAIDS_MARKS.sub("\u2060", coded)


def _dot(outline: Outline) -> Iterator[str]:
    yield "compound=true"
    yield f"graph [bgcolor=transparent, pad=0.1, nodesep=0.3, ranksep=0.4, {_FONT}]"
    yield f'node [style=filled, shape=box, margin="0.15,0.07", height=0.4, {_FONT}]'
    yield f'edge [color="{_GREY}", fontcolor="{_GREY}", arrowsize=0.7, {_FONT}]'
    yield from _dot_parts(outline.parts)
    for edge in outline.edges:
        said = [f'label=" {_in_dot(edge.label)} "'] if edge.label else []
        said += ["style=dashed"] if edge.dashed else []
        said += [f"ltail=cluster_{edge.tail.id}"] if isinstance(edge.tail, Frame) else []
        said += [f"lhead=cluster_{edge.head.id}"] if isinstance(edge.head, Frame) else []
        yield f"{edge.tail.last} -> {edge.head.first} [{', '.join(said)}]"


def _dot_parts(parts: list[Part]) -> Iterator[str]:
    for part in parts:
        label = r"\n".join(map(_in_dot, part.lines))
        if isinstance(part, Box):
            fill, stroke, text = _COLOURS.get(part.state, _COLOURS[""])
            colours = f'fillcolor="{fill}", color="{stroke}", fontcolor="{text}"'
            yield f'{part.id} [label="{label}", {colours}{_DOT_SHAPES[part.shape]}]'
        else:
            yield f"subgraph cluster_{part.id} {{"
            yield from (f"    {line}" for line in _dot_frame(part, label))
            yield "}"


def _dot_frame(frame: Frame, label: str) -> Iterator[str]:
    yield f'label="{label}"'
    yield f'style="rounded{",dashed" if frame.aside else ""}"'
    yield f'fontcolor="{_GREY}"'
    colour = _COLOURS[frame.state][1] if frame.state in _COLOURS and frame.state else _GREY
    yield f'color="{colour}"'
    yield f"penwidth={2 if frame.state in WORST_FIRST else 1}"
    yield from _dot_parts(frame.parts)
    # They are not seen here, where an arrow to a node inside it can end at the frame.
    hidden = "style=invis, width=0.01, height=0.01"
    yield from (f"{joint} [shape=point, {hidden}]" for joint in _joint_ids(frame))
    yield from (f"{tail} -> {head} [style=invis]" for tail, head in _joints(frame))


def _in_dot(text: str) -> str:
    """The text for a label in quotes, in which a backslash and an entity say something else."""
    return printable(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _drawn_by_graphviz(dot: str) -> str:
    """What Graphviz makes of it, or nothing."""
    program = shutil.which("dot")
    if program is None:
        return ""
    # Files, for they can neither fill up while the other side waits nor grow in memory.
    with TemporaryFile() as given, TemporaryFile() as made:
        given.write(dot.encode())
        given.seek(0)
        try:
            subprocess.run(
                [program, "-Tsvg"],
                stdin=given,
                stdout=made,
                stderr=subprocess.DEVNULL,
                timeout=DOT_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        made.seek(0)
        svg = made.read(MAX_SVG_BYTES + 1)
    if len(svg) > MAX_SVG_BYTES:
        return ""
    # Our ids, as titles and comments, say nothing to a reader; the DOCTYPE names a page elsewhere.
    text = _NOISE.sub("", svg.decode(errors="replace"))
    return text[max(text.find("<svg"), 0) :].strip() if text.rstrip().endswith("</svg>") else ""


_GREY: Final = "#7d7d7d"
"""It can be read on white and on black."""
_COLOURS: Final = {
    "": ("#eef0f3", "#7d7d7d", "#1f2328"),
    SUCCESS: ("#c9efd2", "#1f8a3b", "#0b3d17"),
    FAIL: ("#f9cdc8", "#d1352b", "#5c0f0a"),
    RUNNING: ("#cfe2ff", "#2b76d9", "#0b2a5b"),
    CANCELLED: ("#e5d8f3", "#8b5cc7", "#3b1a66"),
    INTERRUPTED: ("#ffe3b5", "#c67a08", "#4d2e00"),
    WAITING: ("#eef0f3", "#7d7d7d", "#57606a"),
}
"""State → fill, border, text: dark on light, whatever stands around them."""
_FRAMES: Final = {
    f"{state}Frame": f"stroke:{colours[1]},stroke-width:{1 if state == WAITING else 2}px"
    for state, colours in _COLOURS.items()
    if state
} | {"aside": "stroke-dasharray:5 5"}
_FONT: Final = 'fontname="Helvetica,Arial,sans-serif", fontsize=11'
_MERMAID_SHAPES: Final = {
    "task": ("[", "]"),
    "stub": ("(", ")"),
    "end": ("([", "])"),
    "choice": ("{", "}"),
}
_DOT_SHAPES: Final = {
    "task": "",
    "stub": ', style="filled,rounded"',
    "end": ", shape=ellipse",
    "choice": ', shape=diamond, margin="0.05,0.02"',
}
_MERMAIDS_OWN: Final = re.compile(
    r"[!\"#$%&'*+/;<>?@\[\\\]^`{|}~]|:(?! )|^-|(?<=direction) ", re.IGNORECASE
)
_MERMAIDS_MARKS: Final = re.compile("(?<=ﬂ)(?=°)|(?<=¶)(?=ß)")
_NOISE: Final = re.compile(r"<title>[^<]*</title>\n?|<!--.*?-->\n?", re.DOTALL)
