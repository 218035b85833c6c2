"""Files kept in a bucket of a server that speaks S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, cast

from obstore import get, head, put
from pydantic import Field, SecretStr
from pydantic_core import to_json

from runnable.catalog import BaseCatalog
from runnable.defaults import MIB
from runnable.exceptions import CatalogError
from runnable.files import short_name
from runnable.objects import FAILURES, FORKS, Address, is_missing, trouble
from runnable.steplog import DataCatalog

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

PART: Final = 8 * MIB
"""Bytes of one part of an upload; a file that is no larger is sent at once."""
PARTS_AT_ONCE: Final = 2
READ: Final = MIB
LOOKS: Final = 5
"""How often a content is looked for before there is none."""
LEFT: Final = timedelta(days=1)
"""A content that has been aside for so long was left there by a process that died."""


class S3Catalog(BaseCatalog):
    """Keeps files in a bucket, each content once, as `<prefix>/objects/ab/cdef…`.

    `<prefix>/runs/<run id>/<step path>.json` lists what each step has put. Needs
    `runnable[s3]`. Without `access_key_id` and `secret_access_key` they are looked for where AWS's
    own tools look: the variables `AWS_…`, the role of the container or of the machine.

    Args:
        bucket: The bucket, which must be there.
        prefix: What each key begins with; empty for nothing.
        endpoint: The server's address, if it is not AWS: `http://…` or `https://…`.
        region: The bucket's.
        access_key_id: Whose requests they are.
        secret_access_key: What proves that; write `${NAME}`, and set the variable.
        timeout: Seconds that one request may take.
        attempts: How often a request is made if the server fails or is away, from 1 on.

    Example:
        >>> S3Catalog(bucket="files", endpoint="http://127.0.0.1:9000", prefix="team").where
        's3://files/team'
    """

    service_name: ClassVar[str] = "s3"
    bucket: Annotated[str, Field(min_length=3, max_length=255)]
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: SecretStr = SecretStr("")
    timeout: Annotated[float, Field(gt=0)] = 60.0
    attempts: Annotated[int, Field(ge=1)] = 3

    @property
    def where(self) -> str:
        """The place, as errors name it."""
        return f"s3://{self.bucket}/{self.prefix.strip('/')}".rstrip("/")

    def has_blob(self, sha256: str, size: int) -> bool:
        """Whether there is an object of that name and size; it is not read."""
        try:
            return head(self._store, self._object(sha256))["size"] == size
        except FAILURES as error:
            if is_missing(error):
                return False
            raise self._failure(error) from error

    def put_blob(self, sha256: str, size: int, pieces: Iterator[bytes]) -> None:
        """Send it, in parts if it is large."""
        if size <= PART:
            self._send(self._object(sha256), b"".join(pieces))
            return
        own: list[Exception] = []

        def watched() -> Iterator[bytes]:
            try:
                yield from pieces
            except Exception as error:  # obstore tells of it as its own
                own.append(error)
                raise

        try:
            put(
                self._store,
                self._object(sha256),
                watched(),
                chunk_size=PART,
                max_concurrency=PARTS_AT_ONCE,
            )
        except Exception as error:
            if own:
                raise own[0] from None
            raise self._failure(error) from error

    def get_blob(self, sha256: str) -> Iterator[bytes]:
        """The object of that name, piece by piece."""
        kept = self._object(sha256)
        # It may be aside, or be put back meanwhile, while it is found out who refers to it.
        for key in chain.from_iterable(
            chain([kept], self._keys(f"trash/{sha256}/")) for _ in range(LOOKS)
        ):
            try:
                found = get(self._store, key)
            except FAILURES as error:
                if is_missing(error):
                    continue
                raise self._failure(error) from error
            yield from self._pieces(found)
            return
        raise CatalogError(
            f"The catalog {self.where}",
            f"has no file of the sha-256 {sha256}",
            "Run the step that puts it again",
        )

    def _pieces(self, found: GetResult) -> Iterator[bytes]:
        try:
            for piece in found.stream(min_chunk_size=READ):
                yield bytes(piece)
        except FAILURES as error:
            raise self._failure(error) from error

    def lay_out(self, run_id: str, path: str, files: Sequence[DataCatalog]) -> None:
        """List what the step has put."""
        listed = [
            {
                "name": file.name,
                "sha256": file.sha256,
                "size": file.size,
                "key": self._object(file.sha256),
            }
            for file in files
        ]
        self._send(self._key(f"runs/{run_id}/{short_name(path)}.json"), to_json(listed, indent=2))

    def claim(self, run_id: str, sha256: str) -> None:
        """Note it as two objects without content: for the run, and for the content."""
        for key in (f"claimed/{run_id}/{sha256}", f"claims/{sha256}/{run_id}"):
            self._send(self._key(key), b"")

    def begin_deletion(self, run_id: str, store: str) -> None:
        """Note it as an object."""
        self._send(self._key(f"deleted/{run_id}"), store.encode())

    def call_off_deletion(self, run_id: str) -> None:
        """Remove that object."""
        self._remove(self._key(f"deleted/{run_id}"))

    def deletions(self) -> Mapping[str, str]:
        """What is noted so."""
        found: dict[str, str] = {}
        for key in self._keys("deleted/"):
            try:
                found[key.rpartition("/")[2]] = bytes(get(self._store, key).bytes()).decode()
            except FAILURES as error:
                if not is_missing(error):  # else it has ended meanwhile
                    raise self._failure(error) from error
        return found

    def delete_run(self, run_id: str) -> None:
        """Remove the lists of what it has put, and the contents that only it refers to."""
        for key in self._keys("trash/", older_than=LEFT):
            self._put_back(key, key.rsplit("/", 2)[1])
        for key in self._keys(f"claimed/{run_id}/"):
            sha256 = key.rpartition("/")[2]
            self._remove(self._key(f"claims/{sha256}/{run_id}"))
            self._settle(sha256)
            self._remove(key)
        for key in self._keys(f"runs/{run_id}/"):
            self._remove(key)
        self._remove(self._key(f"deleted/{run_id}"))

    def _settle(self, sha256: str) -> None:
        """Remove a content to which no run refers.

        It is put aside before the claims are looked at for the last time: a run that claims it
        meanwhile either has its claim seen, and the content is put back, or misses the content,
        and puts it. Whoever else removes it at the same time has a copy aside of their own.
        """
        if not self._keys(f"claims/{sha256}/"):
            aside = self._key(f"trash/{sha256}/{secrets.token_hex(8)}")
            if self._copy(self._object(sha256), aside):
                self._remove(self._object(sha256))
                self._put_back(aside, sha256)

    def _put_back(self, aside: str, sha256: str) -> None:
        """Put a content back if a run refers to it; then it is aside no more."""
        if self._keys(f"claims/{sha256}/"):
            self._copy(aside, self._object(sha256))
        self._remove(aside)

    def _keys(self, below: str, older_than: timedelta = timedelta(0)) -> list[str]:
        """The keys below that, which ends with `/`, of objects of that age."""
        latest = datetime.now(UTC) - older_than if older_than else datetime.max.replace(tzinfo=UTC)
        try:
            listed = cast("Any", self._store).list(self._key(below), chunk_size=1_000)
            return [
                one["path"] for page in listed for one in page if one["last_modified"] <= latest
            ]
        except FAILURES as error:
            raise self._failure(error) from error

    def _copy(self, key: str, to: str) -> bool:
        """Copy an object, on the server; whether it was there."""
        try:
            self._store.copy(key, to)
        except FAILURES as error:
            if is_missing(error):
                return False
            raise self._failure(error) from error
        return True

    def _remove(self, key: str) -> None:
        """Have no object there."""
        try:
            self._store.delete(key)
        except FAILURES as error:
            if not is_missing(error):
                raise self._failure(error) from error

    def _send(self, key: str, content: bytes) -> None:
        try:
            put(self._store, key, content, use_multipart=False)
        except FAILURES as error:
            raise self._failure(error) from error

    @property
    def _store(self) -> ObjectStore:
        FORKS.use(self._address)
        return self._opened

    @cached_property
    def _opened(self) -> ObjectStore:
        return self._address.open()

    @cached_property
    def _address(self) -> Address:
        return Address(
            f"s3://{self.bucket}",
            self.endpoint,
            self.region,
            self.access_key_id,
            self.secret_access_key.get_secret_value(),
            self.timeout,
            self.attempts - 1,
            self.timeout * self.attempts,
        )

    def _object(self, sha256: str) -> str:
        return self._key(f"objects/{sha256[:2]}/{sha256[2:]}")

    def _key(self, name: str) -> str:
        prefix = self.prefix.strip("/")
        return f"{prefix}/{name}" if prefix else name

    def _failure(self, error: BaseException) -> CatalogError:
        """The error for what the server, or the way to it, refused."""
        found = trouble(error, "catalog", self.endpoint)
        again = "; the step can be tried again (retries=…)" if found.passes else ""
        return CatalogError(f"The catalog {self.where}", found.reason, f"{found.advice}{again}")
