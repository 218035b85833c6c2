"""An environment a peer, under `.venv-peers` in the project's folder."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.peers.peers import Contender

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".venv-peers"


def python_of(contender: Contender) -> str:
    """The interpreter that runs it: its environment's, which is made if it is not as required.

    Ours and the bare limit run in the environment that this command runs in.

    Raises:
        subprocess.CalledProcessError: If it cannot be made.
    """
    if not contender.distribution:
        return sys.executable
    folder = FOLDER / contender.name
    python = folder / "bin" / "python"
    made = folder / ".made"
    wanted = _wanted(contender)
    if not made.exists() or made.read_text() != wanted:
        print(f"Installing {contender.name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", contender.requirements], check=True)
        made.write_text(wanted)
    return str(python)


def version_of(contender: Contender, python: str) -> str:
    """Its version, from its own environment."""
    code = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    name = contender.distribution or "runnable"
    ran = subprocess.run(
        [python, "-c", code, name], check=True, capture_output=True, text=True, cwd=FOLDER.parent
    )
    return ran.stdout.strip()


def _wanted(contender: Contender) -> str:
    """What an environment was made of: another Python or requirement makes another."""
    what = f"{sys.version}\n{contender.requirements.read_text()}"
    return hashlib.sha256(what.encode()).hexdigest()
