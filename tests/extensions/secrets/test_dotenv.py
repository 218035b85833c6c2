"""Secrets from a `.env` file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable import ExecutionFailedError, Pipeline, PythonTask, current
from runnable.exceptions import LimitError, MissingSecretError, SecretsError
from runnable.extensions.secrets.dotenv import DotenvSecrets, parse
from runnable.secrets import BaseSecrets
from runnable.testing import SecretsSuite


def quoted(value: str) -> str:
    """A value as its double quotes hold it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class TestDotenv(SecretsSuite):
    @pytest.fixture
    def secrets(self, tmp_path: Path) -> DotenvSecrets:
        return DotenvSecrets(location=tmp_path / ".env")

    def keep(self, secrets: BaseSecrets, name: str, value: str) -> None:
        assert isinstance(secrets, DotenvSecrets)
        secrets.location.touch(mode=0o600)
        with secrets.location.open("a") as file:
            file.write(f"{name}={quoted(value)}\n")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  A = b  ", "b"),
        ("export A=b", "b"),
        ("A=b # comment", "b"),
        ("A=b#no comment", "b#no comment"),
        ("A= # comment", ""),
        ("A=#b", "#b"),
        ("A=", ""),
        ("A='b # c' # d", "b # c"),
        (r"A='b\n\'c\\'", r"b\n'c" + "\\"),
        (r'A="b\n\"c\\ \d \$x"', 'b\n"c\\ \\d \\$x'),
        ('A="one\ntwo # three\n"', "one\ntwo # three\n"),
        ("A='one\n\ntwo'", "one\n\ntwo"),
        ("A=one two", "one two"),
        ("A=$HOME ${HOME:-x}", "$HOME ${HOME:-x}"),
        ("A=b\nA=c", "c"),
        ("# only\n\n   # comments\nA=b\n#", "b"),
        ("A=b\r\n\r\n# end\r\n", "b"),
        ("A=it's", "it's"),
    ],
)
def test_a_line_is_read_as_a_shell_does_but_nothing_is_put_in(line: str, value: str) -> None:
    assert parse(line, ".env") == {"A": value}


def test_names_may_have_dots_and_dashes_and_there_may_be_none() -> None:
    assert parse("a.b-c_1=2\n_=3", ".env") == {"a.b-c_1": "2", "_": "3"}
    assert parse("", ".env") == parse("\n \n#\n", ".env") == {}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("A=1\nhunter22\nB=2", 2, "it is no NAME=value"),
        ("A=1\n\n# c\n=hunter22", 4, "it is no NAME=value"),
        ("1A=hunter22", 1, "it is no NAME=value"),
        ("export\nA=1", 1, "it is no NAME=value"),
        ('A=1\nB="hunter22\nC=3', 2, 'its value begins with " and does not end with it'),
        ("A='hunter22' x", 1, "something follows the ' that ends its value"),
        ('A="one\ntwo" hunter22', 2, 'something follows the " that ends its value'),
    ],
)
def test_a_line_that_means_nothing_is_named_and_not_shown(
    text: str, line: int, reason: str
) -> None:
    with pytest.raises(SecretsError) as caught:
        parse(text, "x/.env")
    told = str(caught.value)
    assert told.startswith(f"Secrets in x/.env:{line}: {reason}. Write it as NAME=value")
    assert "hunter22" not in told


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text()))
def test_whatever_is_quoted_is_read_back(values: dict[str, str]) -> None:
    values = {name: value.replace("\r\n", "\n") for name, value in values.items()}
    text = "\n".join(f"{name}={quoted(value)}" for name, value in values.items())
    assert parse(text, ".env") == values


@given(st.text("AB=\"'\\# \n$"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SecretsError):
        assert all(parse(text, ".env"))


@pytest.fixture
def file(own_folder: Path) -> Path:
    path = own_folder / ".env"
    path.touch(mode=0o600)
    return path


def asked(path: Path) -> str | None:
    return DotenvSecrets(location=path).get("TOKEN")


def test_a_file_that_every_user_may_read_is_warned_of_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("TOKEN=correct-horse")
    file.chmod(0o644)
    secrets = DotenvSecrets(location=file)
    with caplog.at_level(logging.WARNING, "runnable"):
        secrets.get("TOKEN"), secrets.get("OTHER")
    assert [record.getMessage() for record in caplog.records] == [
        f"Every user may read the secrets in {file}: run chmod 600 on it."
    ]
    caplog.clear()
    file.chmod(0o640)
    assert asked(file) == "correct-horse"
    assert caplog.records == []


def test_a_link_to_a_file_is_followed(file: Path, own_folder: Path) -> None:
    file.write_text("\ufeffTOKEN=correct-horse")
    (own_folder / "link").symlink_to(file)
    assert asked(own_folder / "link") == "correct-horse"


def test_what_is_no_file_of_text_is_refused(file: Path, own_folder: Path) -> None:
    os.mkfifo(own_folder / "pipe", 0o600)
    for path, reason in ((own_folder / "pipe", "is not a file"), (own_folder, "is not a file")):
        with pytest.raises(SecretsError, match=reason):
            asked(path)
    file.write_bytes(b"A=1\nB=\xff\n")
    with pytest.raises(SecretsError, match=r"\.env:2: it is not UTF-8"):
        asked(file)
    file.write_bytes(b"A=1\0")
    with pytest.raises(SecretsError, match="null character"):
        asked(file)
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(LimitError, match="The file of secrets"):
        asked(file)


def test_a_secret_of_the_file_reaches_its_step_and_is_masked(
    file: Path, configure: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("TOKEN=correct-horse")
    configure("secrets: {type: dotenv}\n")

    def call() -> None:
        print("sending", current().secret("TOKEN"))

    Pipeline(steps=[PythonTask(function=call, name="call", secrets=["TOKEN"])]).execute()
    assert capsys.readouterr().out == "sending *****\n"


def test_a_missing_secret_is_named_before_anything_runs(
    configure: Callable[[str], Path], own_folder: Path
) -> None:
    configure("secrets: {type: dotenv, location: conf/secrets.env}\n")
    pipeline = Pipeline(steps=[PythonTask(function=print, name="call", secrets=["TOKEN"])])
    path = own_folder / "conf" / "secrets.env"
    with pytest.raises(MissingSecretError) as caught:
        pipeline.execute()
    assert str(caught.value) == (
        f"Step 'call' names the secret 'TOKEN', which the secrets service 'dotenv' ({path}, which "
        f"is not there) does not have. Set it there, or remove the name."
    )
    path.parent.mkdir()
    path.write_text("OTHER=1")
    with pytest.raises(MissingSecretError, match=r"'dotenv' \(\S+secrets\.env\) does not"):
        pipeline.execute()
    path.write_text("nonsense")
    with pytest.raises(SecretsError, match=r"secrets\.env:1: it is no NAME=value"):
        pipeline.execute()
    assert not isinstance(caught.value, ExecutionFailedError)
