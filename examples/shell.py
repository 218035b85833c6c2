"""Shell commands between Python functions: text goes in as variables, and comes out as them.

    python examples/shell.py README.md

A command gets what earlier steps returned in its environment, never in its text, so that a file
name with quotes or spaces in it is a file name and nothing else. What it sets is read when its
shell has ended, and is JSON where it parses.
"""

from __future__ import annotations

import sys

from runnable import Pipeline, PythonTask, ShellTask, metric

COUNT = """
set -eu
echo "counting in $file"
lines=$(wc -l < "$file")
words=$(tr -cs '[:alpha:]' '\\n' < "$file" | tr '[:upper:]' '[:lower:]' | sort | uniq -c | sort -rn)
top=$(printf '%s\\n' "$words" |
    awk '$2 != "" && n++ < 3 { printf "%s{\\"%s\\":%s}", s, $2, $1; s = "," }')
top="[$top]"
"""


def report(file: str, lines: int, top: list[dict[str, int]]) -> str:
    """One sentence of what the command has found."""
    words = ", ".join(f"{word!r} ({count})" for one in top for word, count in one.items())
    return f"{file} has {lines} lines; its most frequent words are {words}."


def main(file: str) -> None:
    """Count in the file with a command, and report with a function."""
    count = ShellTask(name="count", command=COUNT, returns=[metric("lines"), "top"], timeout=60)
    tell = PythonTask(function=report, name="report", returns=["sentence"])
    run = Pipeline(steps=[count, tell], name="shell").execute({"file": file})
    print(run.parameters["sentence"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else __file__)
