"""The law of every catalog that keeps files, as tests: subclass `CatalogSuite`."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Final

import pytest

from runnable.catalog import BaseCatalog
from runnable.defaults import KIB, MIB
from runnable.exceptions import CatalogError
from runnable.steplog import DataCatalog

TURNS: Final = 25
MISSING: Final = hashlib.sha256(b"there is no such file").hexdigest()


def keep(catalog: BaseCatalog, content: bytes) -> str:
    """Keep a content, and give back its name."""
    name = hashlib.sha256(content).hexdigest()
    pieces = (content[at : at + 64 * KIB] for at in range(0, len(content), 64 * KIB))
    catalog.put_blob(name, len(content), pieces)
    return name


def kept(catalog: BaseCatalog, name: str) -> bytes:
    """What is kept under a name."""
    return b"".join(catalog.get_blob(name))


def keep_for(catalog: BaseCatalog, run_id: str, content: bytes) -> str:
    """Keep a content for a run, as a step that puts a file does."""
    name = hashlib.sha256(content).hexdigest()
    catalog.claim(run_id, name)
    if not catalog.has_blob(name, len(content)):
        keep(catalog, content)
    return name


class CatalogSuite:
    """The law of a catalog.

    A subclass says how to make an empty one:

        class TestMyCatalog(CatalogSuite):
            @pytest.fixture
            def catalog(self, tmp_path):
                return MyCatalog(folder=tmp_path)
    """

    @pytest.fixture
    def catalog(self) -> BaseCatalog:
        """An empty catalog."""
        raise NotImplementedError("Say in the subclass how to make a catalog.")

    @pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 20 * MIB + 3])
    def test_what_is_kept_is_given_back_byte_for_byte(
        self, catalog: BaseCatalog, size: int
    ) -> None:
        content = bytes(index % 251 for index in range(997)) * (size // 997 + 1)
        name = keep(catalog, content[:size])
        assert kept(catalog, name) == content[:size]
        assert catalog.has_blob(name, size)

    def test_what_was_never_kept_is_not_there(self, catalog: BaseCatalog) -> None:
        assert not catalog.has_blob(MISSING, 3)
        with pytest.raises(CatalogError, match=MISSING):
            kept(catalog, MISSING)

    def test_a_content_of_another_size_is_not_the_one_that_is_kept(
        self, catalog: BaseCatalog
    ) -> None:
        name = keep(catalog, b"hello")
        assert catalog.has_blob(name, 5)
        assert not catalog.has_blob(name, 6)

    def test_to_keep_the_same_again_changes_nothing(self, catalog: BaseCatalog) -> None:
        assert keep(catalog, b"hello") == keep(catalog, b"hello")
        assert kept(catalog, keep(catalog, b"hello")) == b"hello"

    @pytest.mark.parametrize("size", [200 * KIB, 24 * MIB])
    def test_of_a_content_that_breaks_off_nothing_is_kept(
        self, catalog: BaseCatalog, size: int
    ) -> None:
        def pieces() -> Iterator[bytes]:
            yield bytes(size // 2)
            yield bytes(size // 4)
            raise CatalogError("The file", "changed while it was read", "Wait")

        name = hashlib.sha256(bytes(size)).hexdigest()
        with pytest.raises(CatalogError, match="changed while it was read"):
            catalog.put_blob(name, size, pieces())
        assert not catalog.has_blob(name, size)

    def test_whoever_stops_reading_early_does_no_harm(self, catalog: BaseCatalog) -> None:
        name = keep(catalog, b"x" * 5 * MIB)
        reading = iter(catalog.get_blob(name))
        assert next(reading)
        del reading
        assert len(kept(catalog, name)) == 5 * MIB

    def test_several_threads_keep_one_content_and_read_it(self, catalog: BaseCatalog) -> None:
        content, read = b"y" * MIB, list[bytes]()

        def work() -> None:
            read.append(kept(catalog, keep(catalog, content)))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert read == [content] * 8

    def test_what_steps_have_put_is_laid_out_again_and_again(self, catalog: BaseCatalog) -> None:
        one, two = keep(catalog, b"one"), keep(catalog, b"two")
        for digest in (one, two, two):
            file = DataCatalog("out/größe [1].txt", digest, 3, "put")
            catalog.lay_out("amber-maple-06fcbf1a65", "pages.7.wri te", [file])
        assert (kept(catalog, one), kept(catalog, two)) == (b"one", b"two")

    def test_a_path_of_any_length_is_laid_out(self, catalog: BaseCatalog) -> None:
        file = DataCatalog("out.txt", keep(catalog, b"one"), 3, "put")
        path = ".".join(["ü" * 100] * 3)
        catalog.lay_out("run", path, [file])
        catalog.lay_out("run", f"{path}.other", [file])
        assert kept(catalog, file.sha256) == b"one"

    def test_a_changed_content_is_found_out_when_it_is_read(self, catalog: BaseCatalog) -> None:
        wrong = hashlib.sha256(b"right").hexdigest()
        catalog.put_blob(wrong, 5, iter([b"wrong"]))
        with pytest.raises(CatalogError, match="of the file 'a' is not what was put"):
            list(catalog.checked_blob(wrong, "the file 'a'"))

    def test_a_content_goes_with_the_last_run_that_refers_to_it(self, catalog: BaseCatalog) -> None:
        shared, own = keep_for(catalog, "one", b"shared"), keep_for(catalog, "one", b"own")
        keep_for(catalog, "two", b"shared")
        catalog.delete_run("one")
        assert kept(catalog, shared) == b"shared"
        assert catalog.has_blob(own, 3) is not catalog.deletes_runs
        catalog.delete_run("two")
        assert catalog.has_blob(shared, 6) is not catalog.deletes_runs

    def test_a_run_that_has_put_nothing_is_deleted_and_one_is_deleted_again(
        self, catalog: BaseCatalog
    ) -> None:
        for run_id in ("one", "one", "two"):
            catalog.delete_run(run_id)
        assert catalog.deletions() == {}

    def test_a_deleted_run_may_put_again(self, catalog: BaseCatalog) -> None:
        for _ in range(2):
            assert kept(catalog, keep_for(catalog, "one", b"again")) == b"again"
            catalog.delete_run("one")

    def test_a_deletion_is_noted_until_it_has_ended(self, catalog: BaseCatalog) -> None:
        keep_for(catalog, "one", b"of one")
        keep_for(catalog, "two", b"of two")
        if catalog.deletes_runs:
            catalog.begin_deletion("one", "a store")
            catalog.begin_deletion("two", "another/store: ä")
            assert catalog.deletions() == {"one": "a store", "two": "another/store: ä"}
            catalog.call_off_deletion("two")
            assert catalog.deletions() == {"one": "a store"}
        catalog.delete_run("one")
        assert catalog.deletions() == {}

    def test_runs_that_come_and_go_at_once_never_take_a_content_from_each_other(
        self, catalog: BaseCatalog
    ) -> None:
        wrong = list[Exception]()

        def live(name: str) -> None:
            for _ in range(TURNS):
                try:
                    assert kept(catalog, keep_for(catalog, name, b"shared")) == b"shared"
                    catalog.delete_run(name)
                except Exception as error:
                    wrong.append(error)

        threads = [threading.Thread(target=live, args=[f"run-{n}"]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert "\n".join(map(repr, wrong)) == ""
