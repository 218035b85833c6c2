"""The catalog in a folder: what lies where, who may read it, and what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from runnable.exceptions import CatalogError
from runnable.extensions.catalog.file_system import FileSystemCatalog
from runnable.steplog import DataCatalog
from runnable.testing import CatalogSuite
from runnable.testing.catalog import keep, kept


class TestFileSystemCatalog(CatalogSuite):
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> FileSystemCatalog:
        return FileSystemCatalog(catalog_location=tmp_path / ".catalog")


@pytest.fixture
def catalog(tmp_path: Path) -> FileSystemCatalog:
    return FileSystemCatalog(catalog_location=tmp_path / ".catalog")


def objects(catalog: FileSystemCatalog) -> list[Path]:
    return [path for path in (catalog.catalog_location / ".objects").rglob("*") if path.is_file()]


def laid_out(catalog: FileSystemCatalog, content: bytes, name: str = "a.txt") -> Path:
    file = DataCatalog(name, keep(catalog, content), len(content), "put")
    catalog.lay_out("monday", "write", [file])
    return catalog.catalog_location / "monday" / "write" / name


def test_to_ask_for_something_makes_no_folder(catalog: FileSystemCatalog):
    assert not catalog.has_blob("a" * 64, 1)
    with pytest.raises(CatalogError):
        list(catalog.get_blob("a" * 64))
    assert not catalog.catalog_location.exists()


def test_equal_bytes_lie_there_once(catalog: FileSystemCatalog):
    for name in ("a.txt", "b.txt"):
        assert laid_out(catalog, b"hello", name).read_bytes() == b"hello"
    [content] = objects(catalog)
    assert f"{content.parent.name}{content.name}" == keep(catalog, b"hello")


def test_everything_is_closed_to_other_users_and_no_half_made_file_stays(
    catalog: FileSystemCatalog,
):
    laid_out(catalog, b"hello", "deep/er/a.txt")
    found = [catalog.catalog_location, *catalog.catalog_location.rglob("*")]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in found)
    assert not any(path.name.endswith(".part") for path in found)


def test_git_sees_nothing_of_it(catalog: FileSystemCatalog, tmp_path: Path):
    laid_out(catalog, b"hello")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == b""


def test_what_is_laid_out_is_replaced_and_not_written_through(catalog: FileSystemCatalog):
    path = laid_out(catalog, b"old")
    assert laid_out(catalog, b"new") == path
    assert path.read_bytes() == b"new"
    assert kept(catalog, keep(catalog, b"old")) == b"old"


def test_a_content_that_was_changed_by_hand_is_not_taken_for_whole_and_is_mended(
    catalog: FileSystemCatalog,
):
    digest = keep(catalog, b"hello")
    [path] = objects(catalog)
    path.chmod(0o600)
    path.write_bytes(b"jello")
    assert not catalog.has_blob(digest, 5)
    with pytest.raises(CatalogError, match="its sha-256 has changed"):
        list(catalog.checked_blob(digest, "the file 'a'"))
    assert kept(catalog, keep(catalog, b"hello")) == b"hello"


def test_a_catalog_that_is_a_link_is_refused(catalog: FileSystemCatalog, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    catalog.catalog_location.symlink_to("elsewhere")
    with pytest.raises(CatalogError, match="is no folder, or a symbolic link"):
        keep(catalog, b"hello")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_inside_of_it_is_not_followed(catalog: FileSystemCatalog, tmp_path: Path):
    digest = keep(catalog, b"hello")
    (tmp_path / "elsewhere").mkdir()
    (catalog.catalog_location / "monday").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CatalogError, match="symbolic link"):
        catalog.lay_out("monday", "write", [DataCatalog("a", digest, 5, "put")])
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_catalog_of_another_user_is_refused(catalog: FileSystemCatalog):
    catalog.catalog_location.mkdir(mode=0o700)
    os.chown(catalog.catalog_location, 65_534, 65_534)
    with pytest.raises(CatalogError, match="belongs to another user"):
        keep(catalog, b"hello")


def test_a_file_where_the_folder_should_be_is_refused(catalog: FileSystemCatalog):
    catalog.catalog_location.write_text("a file")
    with pytest.raises(CatalogError, match="is no folder"):
        keep(catalog, b"hello")


def test_a_content_that_lies_aside_is_read_and_laid_out_from_there(catalog: FileSystemCatalog):
    digest = keep(catalog, b"hello")
    [kept_as] = objects(catalog)
    aside = catalog.catalog_location / ".trash"
    aside.mkdir()
    kept_as.rename(aside / digest)
    assert kept(catalog, digest) == b"hello"
    assert laid_out_again(catalog, digest).read_bytes() == b"hello"


def laid_out_again(catalog: FileSystemCatalog, digest: str) -> Path:
    catalog.lay_out("run", "step", [DataCatalog("a.txt", digest, 5, "put")])
    return catalog.catalog_location / "run" / "step" / "a.txt"


def test_what_a_run_refers_to_already_is_not_written_again(
    catalog: FileSystemCatalog, monkeypatch: pytest.MonkeyPatch
):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    catalog.claim("run", "a" * 64)
    assert synced
    synced.clear()
    catalog.claim("run", "a" * 64)
    assert synced == []


def test_the_deletion_of_a_run_without_files_writes_nothing(catalog: FileSystemCatalog):
    catalog.claim("other", "a" * 64)
    catalog.begin_deletion("run", "a store")
    assert catalog.deletions() == {}
    catalog.begin_deletion("other", "a store")
    assert catalog.deletions() == {"other": "a store"}
