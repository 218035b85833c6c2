"""The type checkers, run as a user runs them: on a project that has the package installed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import runnable

DEADLINE = 100
"""Seconds that one run of a checker may take."""

PYRIGHT_CONFIG = {
    "typeCheckingMode": "strict",
    "pythonVersion": "3.11",
    # Comments for mypy are for mypy alone, and one that nothing needs is an error.
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": "error",
}
MYPY_CONFIG = """\
[mypy]
strict = true
python_version = 3.11
pretty = true
"""


def run(folder: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a checker in a folder, with what it says, whatever it says."""
    # `--verifytypes` does not follow the `.pth` file of an editable installation.
    environment = os.environ | {
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
        "NO_COLOR": "1",
        "PYTHONPATH": str(Path(runnable.__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def pyright(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pyright in a folder, strict."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT_CONFIG))
    return run(folder, "pyright", "--pythonpath", sys.executable, *arguments)


def pyright_report(folder: Path, *arguments: str) -> dict[str, Any]:
    """What pyright says in its own format."""
    done = pyright(folder, "--outputjson", *arguments)
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise AssertionError(f"pyright said:\n{done.stdout}\n{done.stderr}") from None


def mypy(folder: Path, cache: Path, config: str = "") -> subprocess.CompletedProcess[str]:
    """Run mypy in a folder, strict; what it finds of other packages stays in the cache."""
    (folder / "mypy.ini").write_text(MYPY_CONFIG + config)
    return run(folder, "mypy", "--cache-dir", str(cache), ".")
