"""A timeline as one file of HTML: nothing is loaded from elsewhere, and only its own script runs.

What a run tells – names, errors, values – stands in the page as text or as JSON that its script
reads, never as markup; a policy in the page names the script and the style by their digests.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from typing import Any, Final

from pydantic_core import to_json

from runnable.run_json import time_json, values_json
from runnable.run_tree import Node, Rest, Tree, shown_rows
from runnable.runlog import RunLog
from runnable.showing import in_words, printable

MAX_PAGE_ROWS: Final = 20_000
"""Steps of one page; past that what is least worth a row is summed up."""
_MANY: Final = 2_000
"""From so many steps on, less of each value is told."""
_VALUE, _VALUE_OF_MANY, _ERROR = 1_000, 160, 4_000
"""Characters of a value, of a value where there are many steps, and of an error."""


def timeline_page(log: RunLog, tree: Tree) -> str:
    """The page of a run.

    Args:
        log: The run log.
        tree: Its steps, up to now.
    """
    title = f"Run {printable(log.run_id)}"
    script, style = _asset("page.js"), _asset("page.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    values = {
        "title": escape(title),
        "policy": escape(policy),
        "style": style,
        "script": script,
        "status": escape(log.status),
        "facts": "".join(_facts(log, tree)),
        "legend": "".join(_LEGEND_ENTRY.format(name=name) for name in _LEGEND),
        "data": _embedded(_data(log, tree)),
    }
    return _TEMPLATE.format(**values)


def _asset(name: str) -> str:
    return files("runnable.timeline").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _embedded(value: object) -> str:
    """JSON that cannot end the element it stands in."""
    text = to_json(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(log: RunLog, tree: Tree) -> Iterator[str]:
    facts = [("pipeline", log.pipeline), ("tag", log.tag)]
    facts += [("started", time_json(log.start_time) or "")]
    facts += [("took", in_words(tree.end - tree.start))]
    if log.epoch > 1:
        facts += [("resumed", f"{log.epoch - 1:,} ×")]
    times = Counter(step.status for step in log.steps.values())
    facts += [("steps", ", ".join(f"{count:,} {status}" for status, count in times.items()))]
    if log.code is not None and log.code.commit:
        changed = " (changed)" if log.code.dirty else ""
        facts += [("code", f"{log.code.commit[:12]} {log.code.branch}".strip() + changed)]
    for name, value in facts:
        if value:
            yield f"<div><dt>{name}</dt><dd>{escape(printable(value[:400]))}</dd></div>"
    if log.error:
        kind = f"{log.error_type}: " if log.error_type else ""
        where = f"{log.error_path}: " if log.error_path else ""
        name = "reason" if log.status == "cancelled" else "error"
        told = escape(printable(f"{where}{kind}{log.error}"[:_ERROR]))
        yield f'<div class="wide"><dt>{name}</dt><dd>{told}</dd></div>'


def _data(log: RunLog, tree: Tree) -> dict[str, Any]:
    rows = shown_rows(tree, MAX_PAGE_ROWS)
    limit = _VALUE if len(rows) <= _MANY else _VALUE_OF_MANY
    return {
        "start": tree.start,
        "seconds": tree.end - tree.start,
        "running": log.status == "running",
        "rows": [
            _rest(row, tree) if isinstance(row, Rest) else _row(row, tree, limit) for row in rows
        ],
    }


def _row(node: Node, tree: Tree, limit: int) -> list[Any]:
    """Label, depth, status, whether it holds others, bars, path, notes.

    A bar is a beginning, an end, a status, and whether it is that of a group.
    """
    bars = [
        [*_between(spell.start, spell.end, tree), spell.status, node.is_group]
        for spell in node.spells
    ]
    label = printable(node.label)
    if node.step is not None and node.step.skipped:
        label += f" ({node.step.skipped})"
    notes = [] if node.step is None else list(_notes(node, limit))
    return [label, node.depth, node.status, bool(node.children), bars, printable(node.path), notes]


def _between(start: float, end: float, tree: Tree) -> tuple[float, float]:
    return round(start - tree.start, 6), round(end - tree.start, 6)


def _notes(node: Node, limit: int) -> Iterator[tuple[str, str]]:
    """What is told of a step beside its times."""
    step = node.step
    if step is None:
        return
    attempts = step.attempts
    for attempt in attempts:
        many = f"attempt {attempt.attempt}: " if len(attempts) > 1 else ""
        if attempt.error:
            problem = f"{attempt.error_type}: {attempt.error}"
            yield f"{many}error", _multiline(problem[:_ERROR])
    if attempts and attempts[-1].input_parameters:
        yield "inputs", _values(attempts[-1].input_parameters, limit)
    values, blobs = values_json(step.stored_outputs())
    for name, blob in blobs.items():
        kind = f"{blob['type']}, pickled" if "type" in blob else "JSON"
        values[name] = f"<{kind}, {blob.get('size', 0):,} bytes>"
    if values:
        yield "outputs", _values(values, limit)


def _values(values: dict[str, Any], limit: int) -> str:
    lines: list[str] = []
    for name, value in values.items():
        text = printable(f"{name} = {to_json(value).decode()}"[: limit + 1])
        lines.append(text if len(text) <= limit else f"{text[: limit - 1]}…")
        limit -= len(text)
        if limit <= 0:
            break
    return "\n".join(lines)


def _multiline(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


def _rest(rest: Rest, tree: Tree) -> list[Any]:
    starts = [node.start for node in rest.nodes if node.start is not None]
    ends = [node.end for node in rest.nodes if node.end is not None]
    bars: list[Any] = []
    if starts and ends:
        bars = [[*_between(min(starts), max(ends), tree), "several", False]]
    return [rest.text, rest.depth, "several", False, bars, "", []]


_LEGEND: Final = ("success", "fail", "cancelled", "interrupted", "running", "waiting")
_LEGEND_ENTRY: Final = '<li><span class="bar {name}"></span>{name}</li>'
_TEMPLATE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}: {status}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title} <span class="state {status}">{status}</span></h1>
<dl>{facts}</dl>
</header>
<div id="tools" role="toolbar" aria-label="View">
<input id="filter" type="search" placeholder="Filter by path" aria-label="Filter by path">
<label><input id="troubled" type="checkbox"> only what did not succeed</label>
<span class="group">
<button id="in" type="button" title="Zoom in (+)" aria-label="Zoom in">+</button>
<button id="out" type="button" title="Zoom out (-)" aria-label="Zoom out">−</button>
<button id="fit" type="button" title="Show all of it (0)">Fit</button>
</span>
<ul id="legend" aria-label="Legend">{legend}</ul>
</div>
<main>
<div id="axis" aria-hidden="true"><span id="count"></span><div id="marks"></div></div>
<div id="rows" role="tree" tabindex="0" aria-label="Steps of the run"><div id="space"></div></div>
</main>
<aside id="details" aria-live="polite" aria-label="Details"></aside>
<noscript><p>A script in this file draws the timeline, and scripts are switched off.</p></noscript>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""
