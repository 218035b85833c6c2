"""A step reports a number as it goes, and the run log has the whole curve.

Run it: python examples/services/learning_curve.py
"""

from __future__ import annotations

from runnable import Pipeline, PythonTask, current, metric


def train(rate: float) -> tuple[float, float]:
    """Finds where (x - 3)² is least, and reports how far it has come."""
    x = 0.0
    for _ in range(20):
        x -= rate * 2 * (x - 3)
        current().metric("loss", (x - 3) ** 2)
    return x, (x - 3) ** 2


def main() -> None:
    """Run it, and draw the curve."""
    step = PythonTask(function=train, name="train", returns=["x", metric("final_loss")])
    run = Pipeline(steps=[step]).execute({"rate": 0.1})
    points = run.series("loss")["train"]
    for point in points[::5]:
        print(f"{point.step:2} {point.value:6.3f} {'#' * round(point.value * 4)}")
    print("points:", len(points))
    print(f"found: {run.parameters['x']:.2f}, with {run.metrics['final_loss']:.4f}")


if __name__ == "__main__":
    main()
