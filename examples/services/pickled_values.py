"""A value that JSON cannot hold travels as a pickle; only what this project wrote is unpickled.

Run it: python examples/services/pickled_values.py
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from runnable import Pipeline, PythonTask, pickled


def measure() -> dict[str, Fraction]:
    """Fractions are exact, and JSON has none."""
    return {"left": Fraction(1, 3), "right": Fraction(1, 6)}


def add(parts: dict[str, Fraction]) -> str:
    """What a step takes is unpickled for it."""
    return str(sum(parts.values()))


pipeline = Pipeline(
    name="fractions",
    steps=[
        PythonTask(function=measure, name="measure", returns=[pickled("parts")]),
        PythonTask(function=add, name="add", returns=["total"]),
    ],
)


def main() -> None:
    """Run it, and read the value back from the run log."""
    run = pipeline.execute()
    print("total:", run.parameters["total"])
    print("shown:", run.parameters["parts"])  # its type: nothing is unpickled to be shown
    print("loaded:", run.load("parts"))  # its keyed digest is checked first
    print("key:", Path(".runnable/key").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
