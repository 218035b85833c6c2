"""What a command is to run: found, or refused in one sentence."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from runnable.cli.target import cause_to_show, load
from runnable.exceptions import PipelineFileError, TargetError
from runnable.origin import Origin
from tests.cli.commands import SHOP, module, own_modules


@pytest.fixture(autouse=True)
def no_module_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of the modules of a test is there for the next."""
    with own_modules(monkeypatch):
        yield


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop", "'shop' names nothing to run. Give a YAML file, or module:attribute."),
        ("shop.py", "its module would be shop:pipeline"),
        ("shop.py:job", "its module would be shop:job"),
        ("shop:", "names nothing to run"),
        ("shop:pipe line", "names nothing to run"),
        ("../shop:pipeline", "names nothing to run"),
        ("nowhere:pipeline", "there is no module 'nowhere'"),
        ("shop.inner:pipeline", "there is no module 'shop.inner'"),
        ("shop:pipelin", "there is no 'pipelin' in it (there are: pipeline, "),
        ("shop:Orders.nothing", "there is no 'nothing' in it"),
        ("shop:steps", "is of the type list, and neither a pipeline nor a job"),
        ("shop:double", "is to be called without arguments to get a pipeline, and cannot be"),
        ("shop:Orders", "was called and gave back something of the type Orders"),
        ("shop:spell", "is to be called without arguments"),
        ("shop:sys", "is of the type module"),
        ("missing.json", "is not there, where a YAML file is expected"),
        ("missing.yaml", "is not there, where a YAML file is expected"),
        (".yaml", "is not there, where a YAML file is expected"),
        ("", "names nothing to run"),
    ],
)
def test_a_target_that_names_nothing_to_run_is_one_sentence(
    own_folder: Path, target: str, said: str
) -> None:
    module(own_folder, SHOP)

    with pytest.raises(TargetError) as raised:
        load(target)

    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_there\n", "ModuleNotFoundError: No module named 'nothing_there' ("),
        ("1 / 0\n", "importing shop failed: ZeroDivisionError: division by zero ("),
        ("def f(:\n", "importing shop failed: SyntaxError: invalid syntax ("),
        ("sys.exit(7)\n", "importing shop failed: SystemExit: 7 ("),
    ],
)
def test_a_module_that_fails_shows_its_own_traceback_and_the_place(
    own_folder: Path, code: str, said: str
) -> None:
    path = module(own_folder, code)

    with pytest.raises(TargetError) as raised:
        load("shop:pipeline")

    assert said in str(raised.value)
    assert raised.value.location == f"{path}:{len(path.read_text().splitlines())}"
    cause = cause_to_show(raised.value)
    assert cause is not None
    trace = "".join(traceback.format_exception(cause))
    assert "runnable/cli" not in trace
    assert "importlib" not in trace


def test_a_definition_that_cannot_be_built_is_one_sentence_with_its_place(own_folder: Path) -> None:
    path = module(own_folder, "pipeline = Pipeline(steps=[])\n")

    with pytest.raises(TargetError, match="Pipeline must have at least one step") as raised:
        load("shop:pipeline")

    assert f"({path}:{len(path.read_text().splitlines())})." in str(raised.value)
    assert cause_to_show(raised.value) is None


def test_the_current_folder_is_looked_at_first_and_added_once(own_folder: Path) -> None:
    module(own_folder, SHOP)

    load("shop:pipeline")
    load("shop:job")

    assert sys.path[0] == str(own_folder)
    assert sys.path.count(str(own_folder)) == 1


@pytest.mark.parametrize("attribute", ["pipeline", "make", "Orders.pipeline", "Orders.make", "job"])
def test_an_attribute_may_be_dotted_or_a_callable_that_makes_what_runs(
    own_folder: Path, attribute: str
) -> None:
    module(own_folder, SHOP)

    found = load(f"shop:{attribute}")

    assert found.executable.check().ok
    assert found.origin == Origin("module", f"shop:{attribute}")


PIPELINE = """
dag:
  steps:
    double: {type: task, command: shop.double, returns: [y]}
"""


def test_a_yaml_file_finds_its_functions_in_the_current_folder(own_folder: Path) -> None:
    module(own_folder, SHOP)
    (own_folder / "inner").mkdir()
    (own_folder / "inner" / "orders.YML").write_text(PIPELINE)

    found = load("inner/orders.YML")

    assert found.executable.check().ok
    assert found.origin == Origin("yaml", "inner/orders.YML")


def test_a_yaml_file_finds_its_functions_beside_itself(own_folder: Path) -> None:
    (own_folder / "inner").mkdir()
    module(own_folder / "inner", SHOP)
    (own_folder / "inner" / "orders.yaml").write_text(PIPELINE)

    assert load("inner/orders.yaml").executable.check().ok
    assert sys.path[:2] == [str(own_folder / "inner"), str(own_folder)]


def test_a_yaml_file_that_makes_no_pipeline_is_one_sentence_with_its_line(own_folder: Path) -> None:
    module(own_folder, SHOP)
    (own_folder / "orders.yaml").write_text(PIPELINE.replace("returns", "retuns"))

    with pytest.raises(
        PipelineFileError, match=r"orders\.yaml:4, step 'double': .*'retuns'"
    ) as raised:
        load("orders.yaml")

    assert cause_to_show(raised.value) is None


def test_a_module_that_fails_under_a_yaml_file_shows_its_traceback(own_folder: Path) -> None:
    path = module(own_folder, "1 / 0\n")
    (own_folder / "orders.yaml").write_text(PIPELINE)

    with pytest.raises(PipelineFileError, match="ZeroDivisionError") as raised:
        load("orders.yaml")

    cause = cause_to_show(raised.value)
    assert isinstance(cause, ZeroDivisionError)
    assert str(path) in "".join(traceback.format_exception(cause))
