"""`runnable check` and `runnable graph`: what they report and draw, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from runnable.cli.checks import check
from runnable.cli.graphs import graph
from runnable.exceptions import InputError, TargetError
from tests.cli.commands import module, own_modules, runnable
from tests.debian import need

SHOP = """
    def fetch(url: str) -> int:
        return 1

    def look() -> int:
        return 1

    pipeline = Pipeline(steps=[
        PythonTask(function=fetch, name="fetch: 1, 2", returns=["x"]),
        PythonTask(function=look, name="look"),
    ])
    fine = Pipeline(steps=[PythonTask(function=look, name="look")])
    job = PythonJob(function=look)
    many = Pipeline(steps=[Stub(name=f"s{n}") for n in range(400)])

    def broken():
        def read(x: str) -> None: ...
        return Pipeline(steps=[
            PythonTask(function=look, name="look", returns=["x"]),
            PythonTask(function=read, name="read"),
        ])
"""


@pytest.fixture(autouse=True)
def shop(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module that is checked."""
    with own_modules(monkeypatch):
        yield module(own_folder, SHOP)


def line_of(path: Path, text: str) -> int:
    """The line of a file that holds a text."""
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize("target", ["shop:fine", "shop:job"])
def test_what_is_fine_ends_well(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    check(target, strict=True)

    assert capsys.readouterr().out == "Nothing to report.\n"


def test_warnings_and_notes_are_told_and_fail_only_if_asked(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("shop:pipeline")
    place = f"{shop}:{line_of(shop, 'def fetch')}"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{place}: warning: step 'fetch: 1, 2': returns 'x', which no later")
    assert lines[1].startswith(f"{place}: note: step 'fetch: 1, 2': needs 'url'")

    with pytest.raises(typer.Exit) as raised:
        check("shop:pipeline", strict=True)
    assert raised.value.exit_code == 1


def test_the_findings_as_json_have_file_and_line(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("shop:pipeline", as_json=True)

    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["target"], told["ok"]) == ("shop:pipeline", True)
    assert [one["severity"] for one in told["findings"]] == ["warning", "note"]
    for one in told["findings"]:
        assert (one["file"], one["line"]) == ("shop.py", line_of(shop, "def fetch"))
        assert one["step"] == "fetch: 1, 2"


def test_annotations_are_commands_of_githubs_with_its_escapes(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check("shop:pipeline", github=True)

    line = line_of(shop, "def fetch")
    warning, note = capsys.readouterr().out.splitlines()
    place = f"file=shop.py,line={line},title=step 'fetch%3A 1%2C 2'"
    assert warning.startswith(f"::warning {place}::returns 'x', which no later step takes.")
    assert note.startswith(f"::notice {place}::needs 'url'")


@pytest.mark.parametrize("name", ["%0A::error::forged", "new\nline", "a\r::error::b"])
def test_what_a_target_is_called_forges_no_annotation(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        check(f"shop:{name}", github=True)

    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert out.startswith("::error ::")
    assert "%0A::error::forged" not in out


def test_a_definition_that_cannot_be_built_is_reported_like_the_rest(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as raised:
        check("shop:broken")

    assert raised.value.exit_code == 1
    place = f"{shop}:{line_of(shop, 'def read')}"
    assert capsys.readouterr().out.startswith(f"{place}: error: step 'read': takes x: str")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pipeline = Pipeline(steps=[])\n", "Pipeline must have at least one step"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error_with_its_place(
    own_folder: Path, code: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = module(own_folder, code, "shop_of_others")

    with pytest.raises(typer.Exit):
        check("shop_of_others:pipeline", as_json=True)

    [found] = json.loads(capsys.readouterr().out)["findings"]
    assert said in found["message"]
    assert (found["file"], found["line"]) == (path.name, len(path.read_text().splitlines()))


def test_yaml_is_an_error_at_its_line(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "dag:\n  steps:\n    look: {type: task, command: shop.look, retuns: [x]}\n"
    (own_folder / "orders.yaml").write_text(text)

    with pytest.raises(typer.Exit):
        check("orders.yaml", github=True)

    out = capsys.readouterr().out
    assert out.startswith("::error file=orders.yaml,line=3,title=step 'look'::there is no key")


def test_the_command_ends_with_its_status_and_talks_on_stdout(own_folder: Path) -> None:
    done = runnable(own_folder, "check", "shop:broken")

    assert (done.returncode, done.stderr) == (1, "")
    assert "error: step 'read'" in done.stdout


def test_a_pipeline_is_drawn_for_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    graph("shop:fine")

    assert capsys.readouterr().out == (
        'flowchart TD\n    n0["look"]\n    n1(["success"])\n    n0 --> n1\n'
    )


def test_its_steps_are_a_table_and_its_structure_json(capsys: pytest.CaptureFixture[str]) -> None:
    graph("shop:job", "text")
    assert "look  python" in capsys.readouterr().out

    graph("shop:job", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["start_at"] == "look"

    graph("shop:job", "json")
    assert json.loads(capsys.readouterr().out) == told


def test_the_picture_goes_to_a_file(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("dot", "graphviz")

    graph("shop:fine", "svg", "fine.svg")

    assert capsys.readouterr().out == ""
    assert (own_folder / "fine.svg").read_text().startswith("<svg")


def test_a_file_that_cannot_be_written_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"'missing/fine\.mmd' cannot be written: No such file"):
        graph("shop:fine", output="missing/fine.mmd")


def test_an_svg_without_graphviz_or_of_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TargetError, match="has more than 300 steps"):
        graph("shop:many", "svg")

    monkeypatch.setenv("PATH", "")
    with pytest.raises(TargetError, match="Graphviz's dot is missing"):
        graph("shop:fine", "svg")
