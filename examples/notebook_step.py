"""A notebook as a step: parameters go in, values come out, and a function goes on with them.

    python examples/notebook_step.py

The notebook, `notebook_step.ipynb`, can be opened and run by hand as well: the cell tagged
`parameters` has the defaults. It needs `pip install 'runnable[notebook]'`.
"""

from pathlib import Path

from runnable import NotebookTask, Pipeline, PythonTask, metric

NOTEBOOK = str(Path(__file__).with_suffix(".ipynb"))


def measure() -> list[float]:
    """Readings of a thermometer, one of them absurd."""
    return [20.5, 21.0, 19.5, 400.0, 20.0]


def report(mean: float) -> None:
    """Say what the notebook found."""
    print(f"the mean of the rest is {mean}")


pipeline = Pipeline(
    name="thermometer",
    steps=[
        PythonTask(function=measure, name="measure", returns=["readings"]),
        NotebookTask(notebook=NOTEBOOK, name="clean", returns=["mean", metric("left_out")]),
        PythonTask(function=report, name="report"),
    ],
)

if __name__ == "__main__":
    run = pipeline.execute({"limit": 100})
    print(f"left out: {run.metrics['left_out']}")
