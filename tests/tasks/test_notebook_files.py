"""What can be known of a notebook before it runs, and what a kernel hands out of its values."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runnable import AsyncPipeline, NotebookTask, Pipeline
from runnable.exceptions import CheckError, DefinitionError, LimitError
from runnable.tasks import in_kernel, notebook_files
from runnable.tasks import notebook as notebook_task
from runnable.tasks.notebook_files import read_notebook
from tests.tasks.notebooks import Write, step, writer


@pytest.fixture(autouse=True)
def in_memory(configure: Callable[[str], Path]) -> None:
    configure("run-log-store:\n  type: buffered\n")


@pytest.fixture
def write(own_folder: Path) -> Write:
    """Writes a notebook."""
    return writer(own_folder)


class TestWhatCanBeKnownBefore:
    async def refused(self, notebook: str, **settings: Any) -> str:
        """What the start of a run says, which `check` says too."""
        pipeline = AsyncPipeline(steps=[step(notebook, **settings)])
        with pytest.raises(CheckError) as raised:
            await pipeline.execute()
        report = await asyncio.to_thread(pipeline.check)
        [finding] = report.errors
        assert str(finding) in str(raised.value)
        assert finding.step == "s"
        assert finding.location == notebook
        return finding.message

    async def test_a_notebook_that_is_not_there(self, own_folder: Path) -> None:
        told = await self.refused("a.ipynb")
        assert told.startswith(
            f"the notebook 'a.ipynb' is not there; the current folder is {str(own_folder)!r}"
        )

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{", "is not JSON (JSONDecodeError: "),
            ("[]", "holds no JSON object"),
            ("{}", "does not say its nbformat"),
            ('{"nbformat": 5}', "is of the format nbformat 5"),
            ('{"nbformat": 4}', "has no list of cells"),
            ('{"nbformat": 4, "cells": [{}]}', "has a cell, number 1, without"),
        ],
    )
    async def test_a_file_that_is_no_notebook(
        self, own_folder: Path, text: str, reason: str
    ) -> None:
        (own_folder / "a.ipynb").write_text(text)
        assert (await self.refused("a.ipynb")).startswith(f"the notebook 'a.ipynb' {reason}")

    async def test_a_folder_is_no_notebook(self, own_folder: Path) -> None:
        (own_folder / "a.ipynb").mkdir()
        assert "cannot be read (IsADirectoryError" in await self.refused("a.ipynb")

    async def test_a_kernel_that_is_not_installed(self, write: Write) -> None:
        told = await self.refused(write("1", kernelspec={"name": "julia-9"}))
        assert "asks for the kernel 'julia-9', which is not installed (there are: " in told
        told = await self.refused(write("1"), notebook_args={"kernel_name": "python4"})
        assert "the kernel 'python4', which is not installed (there are: python3" in told

    async def test_a_kernel_of_another_language(
        self, write: Write, own_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = own_folder / "jupyter" / "kernels" / "ir" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text('{"language": "R", "argv": ["R"], "display_name": "R"}')
        monkeypatch.setenv("JUPYTER_PATH", str(own_folder / "jupyter"))
        told = await self.refused(write("1"), notebook_args={"kernel_name": "ir"})
        assert "asks for the kernel 'ir', which runs 'R'" in told

    async def test_the_extra(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notebook_files, "find_spec", lambda name: None)
        told = await self.refused(write("1"))
        assert told.endswith("'nbclient', which is not installed. Install 'runnable[notebook]'.")


class TestHowItIsBuilt:
    def test_a_path_that_is_no_notebooks(self) -> None:
        with pytest.raises(DefinitionError, match=r"notebook is 'a\.py'; it must be the path"):
            step("a.py")

    def test_an_unknown_key(self) -> None:
        with pytest.raises(DefinitionError, match=r"no key 'kernel'; the nearest is 'kernel_name'"):
            step("a.ipynb", notebook_args={"kernel": "python3"})

    def test_a_wrong_value(self) -> None:
        with pytest.raises(DefinitionError, match="timeout – input should be greater than 0"):
            step("a.ipynb", notebook_args={"timeout": -1})

    def test_the_old_name_warns_once_where_it_is_built(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            task = NotebookTask(notebook="a.ipynb", name="s", optional_ploomber_args={"timeout": 2})
            Pipeline(steps=[task])
        assert [(one.category, one.filename) for one in caught] == [(DeprecationWarning, __file__)]
        assert task.notebook_args == {"timeout": 2}

    def test_both_names(self) -> None:
        with pytest.raises(DefinitionError, match="Give notebook_args alone"):
            step("a.ipynb", notebook_args={}, optional_ploomber_args={})

    def test_the_digest_is_of_the_code_alone(self, write: Write, own_folder: Path) -> None:
        before = read_notebook(write("x = 1", "y = 2")).digest
        file = own_folder / "n.ipynb"
        file.write_text(file.read_text().replace('"outputs": []', '"outputs": [{}]'))
        assert read_notebook("n.ipynb").digest == before
        file.write_text(file.read_text().replace("y = 2", "y = 3"))
        assert read_notebook("n.ipynb").digest != before


class TestWhatTheKernelHandsOut:
    LIMITS: ClassVar[dict[str, int]] = {"json": 100, "object": 200}

    @pytest.fixture
    def told(self, tmp_path: Path) -> Callable[..., dict[str, Any]]:
        def collect(value: Any, kind: str = "json") -> dict[str, Any]:
            in_kernel.collect({"v": value}, [["v", kind]], str(tmp_path), self.LIMITS)
            [one] = json.loads((tmp_path / "values.json").read_text())["values"]
            return one

        return collect

    @pytest.mark.parametrize(
        ("value", "place", "reason"),
        [
            ({"a": float("nan")}, "['a']", "is nan"),
            ([{1: 2}], "[0]", "has a key of type int"),
            ("\ud800", "", "holds half of a character (a lone surrogate)"),
            pytest.param(10**5000, "", "holds a number that cannot be written", id="long"),
            ([b"x"], "[0]", "is of type bytes"),
        ],
    )
    def test_what_json_cannot_hold(
        self, told: Callable[..., dict[str, Any]], value: Any, place: str, reason: str
    ) -> None:
        found = told(value)
        assert (found["fault"], found["place"]) == ("unfit", place)
        assert found["reason"].startswith(reason)

    def test_what_holds_itself_is_too_deep(self, told: Callable[..., dict[str, Any]]) -> None:
        endless: list[Any] = []
        endless.append(endless)
        assert told(endless)["reason"] == "is nested deeper than 100 levels"

    def test_what_is_too_long(self, told: Callable[..., dict[str, Any]]) -> None:
        assert told("x" * 99) == {"fault": "long", "size": 101, "limit": 100}
        assert told(bytes(300), "object")["limit"] == 200

    def test_models_are_written_as_pydantic_writes_them(
        self, told: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        from dataclasses import make_dataclass

        assert told([make_dataclass("Point", ["x"])(1)]) == {"type": "builtins.list"}
        assert (tmp_path / "0").read_bytes() == b'[{"x":1}]'

    def test_what_only_the_notebook_knows_is_not_pickled(
        self, told: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = type("Own", (), {"__module__": "__main__"})
        found = told(own(), "object")
        assert found["fault"] == "unpicklable"
        assert "Own is defined in the notebook, where no other step finds it" in found["reason"]
        assert told(lambda: 1, "object")["fault"] == "unpicklable"

    def test_a_limit_is_an_error_that_says_so(self) -> None:
        facts = {"fault": "long", "size": 101, "limit": 100}
        error = notebook_task._fault("n.ipynb", "v", facts, [])
        assert isinstance(error, LimitError)
        assert "The notebook's v is 101 bytes long" in str(error)
