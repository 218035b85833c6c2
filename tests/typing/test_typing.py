"""What pyright and mypy say of a user's project: all that it may write, and what they must refuse.

The files in `project/` are checked and never run. A line that must be refused has a comment that
takes the refusal back; as both checkers report a comment that nothing needs, a line that is not
refused any more fails the test.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.typing.checkers import mypy, pyright

PROJECT = Path(__file__).with_name("project")

PYDANTIC_PLUGIN = """\
plugins = pydantic.mypy

[pydantic-mypy]
init_typed = true
init_forbid_extra = true
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, where no configuration of ours is near."""
    return Path(shutil.copytree(PROJECT, tmp_path / "project"))


def succeed(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"\n{done.stdout}\n{done.stderr}"


def test_pyright_strict_says_what_it_must_of_a_users_project(project: Path):
    succeed(pyright(project))


@pytest.mark.parametrize("config", ["", PYDANTIC_PLUGIN], ids=["plain", "pydantic-plugin"])
def test_mypy_strict_says_what_it_must_of_a_users_project(
    project: Path, config: str, pytestconfig: pytest.Config
):
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy-plugin" if config else "mypy-plain")
    succeed(mypy(project, cache, config))


def test_a_refusal_that_is_missing_is_told(project: Path, pytestconfig: pytest.Config):
    assert pytestconfig.cache is not None
    for path in project.iterdir():
        path.unlink()
    (project / "right.py").write_text("x: int = 1  # type: ignore[assignment]\n")
    assert "[unused-ignore]" in mypy(project, pytestconfig.cache.mkdir("mypy-plain")).stdout
    (project / "right.py").write_text("x: int = 1  # pyright: ignore[reportAssignmentType]\n")
    assert "reportUnnecessaryTypeIgnoreComment" in pyright(project).stdout
