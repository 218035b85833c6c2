"""What is read of a checkout of git, and what is never run by it."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runnable.checkout import Checkout, without_credentials

Git = Callable[..., str]
PATIENT = 30.0


@pytest.fixture
def git(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A repository in the current folder, with one commit; gives what runs git in it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(own_folder.parent))

    def run(*arguments: str, at: Path = own_folder) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=at, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "trunk")
    (own_folder / "code.py").write_text("x = 1\n")
    run("add", "code.py")
    run("commit", "-q", "-m", "one")
    return run


def around(folder: Path) -> Checkout:
    checkout = Checkout.around(folder)
    assert checkout is not None
    return checkout


def told(folder: Path) -> tuple[str, str, bool] | None:
    changes = around(folder).ask_for_changes()
    return None if changes is None else changes.told(PATIENT)


def test_commit_and_branch_are_read_from_files(git: Git, own_folder: Path) -> None:
    commit = git("rev-parse", "HEAD")
    (own_folder / "deep" / "er").mkdir(parents=True)
    assert around(own_folder / "deep" / "er").head() == (commit, "trunk")
    git("pack-refs", "--all")
    assert around(own_folder).head() == (commit, "trunk")
    git("checkout", "-q", "-b", "feature/x")
    assert around(own_folder).head() == (commit, "feature/x")
    git("checkout", "-q", "--detach")
    assert around(own_folder).head() == (commit, "")
    assert told(own_folder) == (commit, "", False)


def test_a_tracked_file_that_differs_is_a_change_and_an_untracked_one_is_not(
    git: Git, own_folder: Path
) -> None:
    commit = git("rev-parse", "HEAD")
    (own_folder / "data.csv").write_text("1,2")
    assert told(own_folder) == (commit, "trunk", False)
    (own_folder / "code.py").write_text("x = 2\n")
    assert told(own_folder) == (commit, "trunk", True)
    git("add", "code.py")
    assert told(own_folder) == (commit, "trunk", True)


def test_an_empty_repository_has_a_branch_and_no_commit(git: Git, own_folder: Path) -> None:
    folder = own_folder / "empty"
    folder.mkdir()
    git("init", "-q", "-b", "main", at=folder)
    assert around(folder).head() == ("", "main")
    assert told(folder) == ("", "main", False)


def test_another_checkout_of_a_repository_has_its_own_head(git: Git, own_folder: Path) -> None:
    git("remote", "add", "origin", "https://example.org/a.git")
    git("worktree", "add", "-q", "-b", "other", "beside")
    commit = git("rev-parse", "HEAD")
    assert around(own_folder / "beside").head() == (commit, "other")
    assert around(own_folder / "beside").remote() == "https://example.org/a.git"


def test_outside_and_in_a_bare_repository_there_is_no_checkout(git: Git, own_folder: Path) -> None:
    git("clone", "-q", "--bare", ".", "bare.git")
    (own_folder / ".git").rename(own_folder / "hidden")
    assert Checkout.around(own_folder) is None
    assert Checkout.around(own_folder / "bare.git") is None
    (own_folder / ".git").write_text("gitdir: /nowhere/at/all")
    assert Checkout.around(own_folder) is None


def test_nothing_of_a_repository_is_run(git: Git, own_folder: Path) -> None:
    program = own_folder / "program.sh"
    program.write_text(f"#!/bin/sh\ntouch {own_folder}/was-run\ncat\n")
    program.chmod(0o755)
    hooks = own_folder / ".git" / "hooks"
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit"):
        (hooks / hook).write_bytes(program.read_bytes())
        (hooks / hook).chmod(0o755)
    git("config", "core.fsmonitor", str(program))
    git("config", "core.sshCommand", str(program))
    (own_folder / "code.py").write_text("x = 3\n")
    answer = told(own_folder)
    assert answer is not None
    assert answer[2] is True

    (own_folder / ".gitattributes").write_text("*.py filter=evil\n")
    git("config", "filter.evil.clean", str(program))
    assert around(own_folder).ask_for_changes() is None
    assert not (own_folder / "was-run").exists()


def test_the_index_is_left_as_it_is(git: Git, own_folder: Path) -> None:
    index = own_folder / ".git" / "index"
    os.utime(own_folder / "code.py", (1, 1))  # which git would note down
    before = index.read_bytes()
    told(own_folder)
    assert index.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_of_a_repository_of_another_owner_only_files_are_read(git: Git, own_folder: Path) -> None:
    commit = git("rev-parse", "HEAD")
    for path in (own_folder, own_folder / ".git"):
        os.chown(path, 65534, 65534)
    assert around(own_folder).head() == (commit, "trunk")
    assert told(own_folder) is None


def program_called_git(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir()
    (folder / "bin" / "git").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_git_that_takes_too_long_is_ended_with_its_children(
    git: Git, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_called_git(own_folder, "sleep 600 & echo $! > child; wait", monkeypatch)
    changes = around(own_folder).ask_for_changes()
    assert changes is not None
    give_up = time.monotonic() + PATIENT
    while not (own_folder / "child").exists() or not (own_folder / "child").read_text().strip():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert changes.told(0.01) is None
    child = Path("/proc", (own_folder / "child").read_text().strip(), "stat")
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_without_git_only_files_are_read(
    git: Git, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git("rev-parse", "HEAD")
    monkeypatch.setenv("PATH", f".{os.pathsep}{own_folder}/none")
    (own_folder / "git").write_text("#!/bin/sh\ntouch was-run\n")
    (own_folder / "git").chmod(0o755)
    assert around(own_folder).ask_for_changes() is None
    assert around(own_folder).head() == (commit, "trunk")


def test_git_gets_none_of_the_secrets_of_the_environment(
    git: Git, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "correct-horse")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    program_called_git(own_folder, "env > seen", monkeypatch)
    told(own_folder)
    seen = (own_folder / "seen").read_text()
    assert "GIT_OPTIONAL_LOCKS=0" in seen
    assert "TOKEN" not in seen
    assert "GIT_DIR" not in seen


def test_files_that_are_none_do_not_hold_the_reader_up(git: Git, own_folder: Path) -> None:
    head = own_folder / ".git" / "HEAD"
    head.write_text("ref: ../../secret\n")
    assert around(own_folder).head() == ("", "")
    head.write_text("ref: refs/heads/a\n")
    (own_folder / ".git/refs/heads/a").write_text("ref: refs/heads/a\n")
    assert around(own_folder).head() == ("", "a")
    (own_folder / ".git/config").unlink()
    os.mkfifo(own_folder / ".git/config")
    assert around(own_folder).remote() == ""
    assert stat.S_ISFIFO((own_folder / ".git/config").stat().st_mode)


def test_the_remote_is_origin_or_else_the_first(git: Git, own_folder: Path) -> None:
    assert around(own_folder).remote() == ""
    git("remote", "add", "fork", "git@example.org:me/a.git")
    git("remote", "add", "mine", "/srv/a.git")
    assert around(own_folder).remote() == "example.org:me/a.git"
    git("remote", "add", "origin", "https://me:t0ken@example.org/a.git")
    assert around(own_folder).remote() == "https://example.org/a.git"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://example.org:8443/a", "https://example.org:8443/a"),
        ("https://SECRET@example.org/a", "https://example.org/a"),
        ("https://me:SECRET@example.org/a", "https://example.org/a"),
        ("https://me:SEC@RET@example.org/a", "https://example.org/a"),
        ("https://me:SEC%40RET@example.org/a", "https://example.org/a"),
        ("https://:SECRET@example.org", "https://example.org"),
        ("https://example.org/a?private_token=SECRET", "https://example.org/a"),
        ("https://example.org/a#SECRET", "https://example.org/a"),
        ("https://example.org?SECRET", "https://example.org"),
        ("https://me:SEC/RET@example.org/a", ""),
        ("https://me:SECRET%40example.org/a", ""),
        ("https://me:SECRET", ""),
        ("https://me:SEC\tRET@example.org/a", ""),
        ("ssh://git@example.org:22/a", "ssh://example.org:22/a"),
        ("ssh://git@[::1]:22/a", "ssh://[::1]:22/a"),
        ("git@example.org:a/b.git", "example.org:a/b.git"),
        ("me:SECRET@example.org:a/b.git", "example.org:a/b.git"),
        ("me:SECRET@example.org/a", ""),
        ("ext::sh -c SECRET", ""),
        ("gcrypt::https://me:SECRET@example.org/a", "https://example.org/a"),
        ("file:///srv/a.git", "file:///srv/a.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("../a.git", "../a.git"),
        ("", ""),
    ],
)
def test_no_credential_is_left_in_a_remote(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
