"""Three steps that work on files: what each leaves is kept, and given to the next as it was left.

    python examples/catalog.py

The files lie in `work/`, the catalog in `.catalog/`. Between the second and the third step somebody
spoils a file; the third step gets it as the second has put it.
"""

import csv
from pathlib import Path

from runnable import Catalog, Pipeline, PythonTask

WORK = Path("work")


def measure() -> None:
    """Write a table of measurements."""
    WORK.mkdir(exist_ok=True)
    with (WORK / "raw.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["hour", "celsius"], [6, 11], [12, 19], [18, 16]])


def convert() -> int:
    """Read it, and write another one."""
    with (WORK / "raw.csv").open(newline="") as file:
        rows = [(row["hour"], float(row["celsius"]) * 9 / 5 + 32) for row in csv.DictReader(file)]
    with (WORK / "converted.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["hour", "fahrenheit"], *rows])
    return len(rows)


def spoil() -> None:
    """What should not happen between two steps."""
    (WORK / "converted.csv").write_text("lost")


def highest() -> float:
    """Read what `convert` has put."""
    with (WORK / "converted.csv").open(newline="") as file:
        return max(float(row["fahrenheit"]) for row in csv.DictReader(file))


def main() -> None:
    """Run it, and say what was kept."""
    pipeline = Pipeline(
        steps=[
            PythonTask(function=measure, name="measure", catalog=Catalog(put=["work/raw.csv"])),
            PythonTask(
                function=convert,
                name="convert",
                returns=["rows"],
                catalog=Catalog(get=["work/raw.csv"], put=["work/converted.csv"]),
            ),
            PythonTask(function=spoil, name="spoil"),
            PythonTask(
                function=highest,
                name="highest",
                returns=["highest"],
                catalog=Catalog(get=["work/converted.csv"]),
            ),
        ]
    )
    run = pipeline.execute()
    print(f"{run.parameters['rows']} rows, at most {run.parameters['highest']} degrees")
    for path, step in run.steps.items():
        for file in step.attempts[-1].files:
            print(f"{path:8} {file.stage} {file.name} {file.size} bytes {file.sha256[:8]}")
    for kept in sorted(Path(".catalog", run.run_id).rglob("*.csv")):
        print(kept.relative_to(Path(".catalog", run.run_id)))


if __name__ == "__main__":
    main()
