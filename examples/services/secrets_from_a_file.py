"""A step reads a secret from a `.env` file; what it prints of it is hidden.

Run it: python examples/services/secrets_from_a_file.py
"""

from __future__ import annotations

import os
from pathlib import Path

from runnable import Pipeline, PythonTask, current
from runnable.exceptions import MissingSecretError

CONFIGURATION = """
secrets:
  type: dotenv
  location: shop.env
"""


def order() -> int:
    """What a step reads of a secret never reaches the run log, nor the terminal."""
    token = current().secret("SHOP_TOKEN")
    print("calling the shop with", token)
    return len(token)


def pipeline(secret: str) -> Pipeline:
    """One step that names one secret."""
    step = PythonTask(function=order, name="order", secrets=[secret], returns=["size"])
    return Pipeline(steps=[step])


def main() -> None:
    """Write the two files, run, and ask for a secret that is not there."""
    Path("shop.yaml").write_text(CONFIGURATION)
    with os.fdopen(os.open("shop.env", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write("# What the shop gave us.\nexport SHOP_TOKEN='correct-horse-battery'\n")

    run = pipeline("SHOP_TOKEN").execute(configuration_file="shop.yaml")
    print("characters:", run.parameters["size"])

    try:
        pipeline("BANK_TOKEN").execute(configuration_file="shop.yaml")
    except MissingSecretError as error:
        print("missing:", error.name)


if __name__ == "__main__":
    main()
