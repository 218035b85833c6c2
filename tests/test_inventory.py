"""What is said of installed plug-ins, whatever the packages that register them do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runnable import inventory, plugins
from runnable.inventory import BASES, Installed

PROJECT = Path(__file__).parents[1]
GOOD = (
    "import sys\n"
    "from runnable.secrets import BaseSecrets\n"
    "print('talk')\n"
    "sys.stderr.write('more talk')\n"
    "class Vault(BaseSecrets):\n"
    "    service_name = 'vault'\n"
    "    def get(self, name): return None\n"
)
BAD = {
    "missing": "import surely_not_there",
    "raising": "raise OSError('no\\nway \\x1b[31m')",
    "leaving": "raise SystemExit(0)",
    "ending": "import os; os._exit(0)",
    "loud": "import os, sys; sys.stderr.write('a\\nlast \\x1b[31m words'); os._exit(7)",
    "crashing": "import ctypes; ctypes.string_at(0)",
    "other": "class Vault: ...",
    "threads": f"{GOOD}import threading as t, time\nt.Thread(target=time.sleep, args=[99]).start()",
}


def install(folder: Path, package: str, entry_points: str, **modules: str) -> None:
    """An installed package of another author."""
    dist = folder / f"{package}-1.0.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (dist / "entry_points.txt").write_text(entry_points)
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, on the path of this process and of its children."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site


def found(package: str) -> dict[str, Installed]:
    return {one.name: one for one in inventory.inventory() if one.package == package}


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runnable", "plugins", *arguments],
        env={**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{site}"},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_group_has_its_base_class() -> None:
    assert BASES.keys() == plugins.BUILT_IN.keys()


def test_every_plug_in_of_ours_loads_and_is_told_with_class_and_version() -> None:
    told = found("runnable")
    assert {(one.group, one.name, one.target) for one in inventory._own()} == {
        (group, name, target)
        for group, names in plugins.BUILT_IN.items()
        for name, target in names.items()
    }
    assert {one.problem for one in told.values()} == {""}
    assert all(one.version for one in told.values())


def test_a_plug_in_of_another_package_is_told_with_where_it_is_from(site: Path) -> None:
    install(site, "acme", "[secrets]\nvault = acme_vault:Vault\n", acme_vault=GOOD)

    assert found("acme") == {
        "vault": Installed("secrets", "vault", "acme_vault:Vault", "acme", "1.0", "")
    }


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("missing", "needs the module 'surely_not_there', which is not installed: install the "),
        ("raising", "(acme_raising:Vault) does not load: OSError: no"),
        ("leaving", "ends the process that imports it (exit status 0): uninstall it"),
        ("ending", "ends the process that imports it (exit status 0): uninstall it"),
        (
            "loud",
            (
                "ends the process that imports it (exit status 7, which said "
                "'last \\x1b[31m words'): uninstall it"
            ),
        ),
        ("crashing", "ends the process that imports it (exit status -11): uninstall it"),
        ("other", "is not a BaseSecrets"),
        ("threads", ""),
    ],
)
def test_a_package_can_do_what_it_likes_when_it_is_imported(
    site: Path, kind: str, problem: str
) -> None:
    points = f"[secrets]\n{kind} = acme_{kind}:Vault\n"
    install(site, "acme", points, **{f"acme_{kind}": BAD[kind]})

    assert found("acme")[kind].problem.startswith(problem)
    assert bool(problem) == bool(found("acme")[kind].problem)


def test_an_import_without_end_is_ended(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "SECONDS", 0.5)
    install(site, "acme", "[secrets]\nslow = acme_slow:Vault\n", acme_slow="while True: ...")

    assert found("acme")["slow"].problem == (
        "is not imported within 0.5 seconds: ask its authors, or uninstall it"
    )


def test_a_name_that_is_registered_twice_is_told_for_each(site: Path) -> None:
    install(site, "acme", "[secrets]\nvault = acme_vault:Vault\n", acme_vault=GOOD)
    install(
        site, "rival", "[secrets]\nvault = rival_vault:Vault\nenv-secrets = rival_vault:Vault\n"
    )

    assert found("acme")["vault"].problem.startswith("is registered by rival, too, so neither")
    assert found("rival")["vault"].problem.startswith("is registered by acme, too, so neither")
    assert found("rival")["env-secrets"].problem.startswith("is a name that runnable itself has")


def test_a_package_that_is_there_twice_counts_as_the_interpreter_sees_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(behind)])
    install(site, "acme", "[secrets]\nvault = acme_vault:Vault\n", acme_vault=GOOD)
    install(behind, "Acme", "[secrets]\nvault = acme_old:Vault\n")

    assert found("acme")["vault"].problem == ""
    assert found("Acme") == {}


@pytest.mark.parametrize("text", ["[secrets]\nvault\n= =\n[", "\ud800", "\xff"])
def test_a_package_with_entry_points_that_mean_nothing_breaks_nobody(site: Path, text: str) -> None:
    install(site, "acme", "[secrets]\nvault = acme_vault:Vault\n", acme_vault=GOOD)
    install(site, "broken", "")
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(
        text.encode("latin-1", "replace")
    )

    assert found("acme")["vault"].problem == ""
    assert "vault" in plugins.known("secrets")
    assert run(site).returncode == 0


def test_the_command_writes_a_line_a_plug_in_or_json(site: Path) -> None:
    install(
        site,
        "acme",
        "[secrets]\nvault = acme_vault:Vault\nloud = acme_loud:Vault\n",
        acme_vault=GOOD,
        acme_loud=BAD["loud"],
    )

    table, told = run(site), run(site, "--json")

    assert (table.returncode, told.returncode) == (0, 0)
    assert (table.stderr, told.stderr) == ("", "")
    assert "\x1b" not in table.stdout
    lines = [line.split() for line in table.stdout.splitlines()]
    assert ["secrets", "vault", "acme_vault:Vault", "acme", "1.0", "loads"] in lines
    listed = [one for one in json.loads(told.stdout) if one["package"] == "acme"]
    assert listed[1] == {
        "group": "secrets",
        "name": "vault",
        "target": "acme_vault:Vault",
        "package": "acme",
        "version": "1.0",
        "problem": "",
        "loads": True,
    }
    assert listed[0]["loads"] is False
    assert len(lines) == 1 + len(json.loads(told.stdout))


def test_entry_points_that_cannot_be_read_are_told_on_stderr(site: Path) -> None:
    install(site, "broken", "")
    (site / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(b"[secrets]\nvault = \xff\n")

    done = run(site)

    assert done.returncode == 0
    assert done.stderr.startswith(f"What {site}/broken-1.0.dist-info registers cannot be read (")
    assert done.stderr.endswith("): install it again.\n")
