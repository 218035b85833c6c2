"""The variables of a child process: what it inherits, what is added, what is never passed on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from runnable.clock import Clock
from runnable.extensions.pickler.pickle import PicklePickler
from runnable.parameters import JsonParameter, MetricParameter, ObjectParameter, Parameter
from runnable.scope import CallbackSink, Run, Scope
from runnable.tasks.environment import (
    MAX_VARIABLE_BYTES,
    environment_of,
    is_guarded,
    obstacle,
    text_of,
)

FACTS = {
    "RUNNABLE_RUN_ID",
    "RUNNABLE_STEP_PATH",
    "RUNNABLE_STEP_ATTEMPT",
    "RUNNABLE_IDEMPOTENCY_KEY",
}
OBEYED = """
    PATH HOME IFS ENV BASH_ENV BASH_FUNC_ls%%
    SHELLOPTS PS4 LD_PRELOAD LD_LIBRARY_PATH LC_ALL DYLD_INSERT_LIBRARIES
    PYTHONPATH PYTHONSTARTUP PERL5OPT NODE_OPTIONS JAVA_TOOL_OPTIONS GIT_SSH_COMMAND
    https_proxy RUNNABLE_KEY RUNNABLE_RUN_ID RUNNABLE_RETRY_RUN_ID RUNNABLE_CONFIGURATION_FILE
    RUNNABLE_PRM_x
    TMPDIR GLIBC_TUNABLES
"""


def scope_of(
    parameters: dict[str, object] | None = None,
    *,
    variables: dict[str, object] | None = None,
    secrets: dict[str, str] | None = None,
) -> Scope:
    clock = Clock()
    run = Run(
        "r",
        CallbackSink(None, "r", clock),
        clock,
        PicklePickler(),
        lambda data: "",
        secrets=secrets or {},
    )
    wrapped: dict[str, Parameter] = {
        name: value if isinstance(value, Parameter) else JsonParameter(value)
        for name, value in (parameters or {}).items()
    }
    return Scope(run, wrapped, name="s", path="pages.7.s", variables=variables)


def added(scope: Scope, *own: str, parameters: bool = True) -> dict[str, str]:
    """What is not inherited as it is."""
    found = environment_of(scope, own, parameters=parameters)
    return {name: value for name, value in found.items() if os.environ.get(name) != value}


async def test_it_tells_which_step_of_which_run_and_which_attempt_it_is():
    scope = scope_of()
    found = added(scope)
    assert found.keys() == FACTS
    assert (found["RUNNABLE_RUN_ID"], found["RUNNABLE_STEP_PATH"]) == ("r", "pages.7.s")
    again = scope.next_attempt()
    assert added(again)["RUNNABLE_STEP_ATTEMPT"] == "2"
    assert added(again)["RUNNABLE_IDEMPOTENCY_KEY"] == found["RUNNABLE_IDEMPOTENCY_KEY"]


async def test_text_goes_as_it_is_and_everything_else_as_json():
    values: dict[str, object] = {"t": 'a "b"\n', "n": 3, "f": 0.5, "b": True, "o": None, "l": [1]}
    found = added(scope_of({**values, "m": MetricParameter({"é": 1}), "digits": "7"}))
    assert {name: found[name] for name in found if name not in FACTS} == {
        "t": 'a "b"\n',
        "n": "3",
        "f": "0.5",
        "b": "true",
        "o": "null",
        "l": "[1]",
        "m": '{"é":1}',
        "digits": "7",
    }


async def test_without_parameters_it_has_the_iteration_variables_alone():
    scope = scope_of({"a": 1}, variables={"page": 7})
    assert added(scope, parameters=False).keys() - FACTS == {"page"}
    assert added(scope).keys() - FACTS == {"a", "page"}


async def test_an_iteration_variable_wins_over_a_parameter_and_a_secret_over_both():
    scope = scope_of({"x": 1, "y": 1}, variables={"x": 2, "y": 2}, secrets={"y": "swordfish"})
    found = added(scope, "y")
    assert (found["x"], found["y"]) == ("2", "swordfish")


async def test_it_has_its_own_secrets_and_none_of_other_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THEIRS", "mackerel-22")
    monkeypatch.setenv("COPY_OF_THEIRS", "mackerel-22")
    monkeypatch.setenv("RUNNABLE_KEY", "the key")
    scope = scope_of(secrets={"MINE": "swordfish-1", "THEIRS": "mackerel-22"})
    found = environment_of(scope, ["MINE"], parameters=True)
    assert found["MINE"] == "swordfish-1"
    assert "mackerel-22" not in found.values()
    assert "RUNNABLE_KEY" not in found


async def test_the_configuration_is_passed_on_without_the_secrets_of_services(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("CATALOG_TYPE", "RUN_LOG_STORE_DSN", "CATALOG_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"RUNNABLE_{name}", "swordfish-1")
    monkeypatch.setenv("RUNNABLE_CONFIGURATION_FILE", "conf.yaml")
    found = environment_of(scope_of(), [], parameters=True)
    assert {name for name in found if name.startswith("RUNNABLE_")} - FACTS == {
        "RUNNABLE_CATALOG_TYPE",
        "RUNNABLE_CONFIGURATION_FILE",
    }
    named = scope_of(secrets={"RUNNABLE_RUN_LOG_STORE_DSN": "swordfish-1"})
    found = environment_of(named, ["RUNNABLE_RUN_LOG_STORE_DSN"], parameters=True)
    assert found["RUNNABLE_RUN_LOG_STORE_DSN"] == "swordfish-1"


async def test_the_key_is_not_passed_on_even_as_a_secret():
    scope = scope_of(secrets={"RUNNABLE_KEY": "swordfish-1"})
    assert "RUNNABLE_KEY" not in environment_of(scope, ["RUNNABLE_KEY"], parameters=True)


@pytest.mark.parametrize(
    "name",
    OBEYED.split(),
)
async def test_a_name_that_programs_obey_is_not_passed_on(name: str):
    assert is_guarded(name)
    scope = scope_of({name: "/evil"}, variables={name: "/evil"})
    assert "/evil" not in environment_of(scope, (), parameters=True).values()
    assert environment_of(scope, (), parameters=True).get("PATH") == os.environ.get("PATH")


@pytest.mark.parametrize(
    "name", ["path", "home", "topic", "N_ITEMS", "MODEL", "PATHS", "GIT_COMMIT", "a-b", "größe"]
)
async def test_any_other_name_is(name: str):
    assert not is_guarded(name)
    assert added(scope_of({name: "x"}))[name] == "x"


def pickled(value: object) -> ObjectParameter:
    return ObjectParameter(b"", "package.Model", lambda data: value)


@pytest.mark.parametrize(
    ("name", "parameter", "reason"),
    [
        ("", JsonParameter("x"), "its name is empty"),
        ("a=b", JsonParameter("x"), "a '=' or a NUL"),
        ("a\0b", JsonParameter("x"), "a '=' or a NUL"),
        ("\ud800", JsonParameter("x"), "cannot encode its name"),
        ("x", JsonParameter("a\0b"), "has a NUL character"),
        ("x", JsonParameter("x" * MAX_VARIABLE_BYTES), "and the system takes 128 KiB"),
        ("x", JsonParameter(["x" * 7 * MAX_VARIABLE_BYTES]), "and the system takes 128 KiB"),
        ("x", pickled(object()), "it is a pickled object"),
    ],
)
async def test_what_no_environment_can_hold_is_left_out(
    name: str, parameter: Parameter, reason: str
):
    assert reason in obstacle(name, parameter)
    scope = scope_of({name: parameter, "y": 1})
    assert added(scope).keys() - FACTS == {"y"}


async def test_the_largest_value_that_is_passed_on_is_one_that_a_process_can_start_with():
    value = "x" * (MAX_VARIABLE_BYTES - len("größe".encode()) - 2)
    found = environment_of(scope_of({"größe": value}), (), parameters=True)
    assert found["größe"] == value
    assert obstacle("größe", JsonParameter(value + "x"))

    def start(**more: str) -> Any:
        return subprocess.run([sys.executable, "-Sc", ""], env={**found, **more}, check=False)

    import asyncio

    assert (await asyncio.to_thread(start)).returncode == 0


def test_a_string_that_looks_like_json_stays_the_string():
    assert text_of(JsonParameter("[1, 2]")) == "[1, 2]"
    assert text_of(JsonParameter('"quoted"')) == '"quoted"'
