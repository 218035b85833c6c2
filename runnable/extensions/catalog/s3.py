"""Files kept in a bucket of a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

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
    from obstore.store import ObjectStore

PART: Final = 8 * MIB
"""Bytes of one part of an upload; a file that is no larger is sent at once."""
PARTS_AT_ONCE: Final = 2
READ: Final = MIB


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
        try:
            for piece in get(self._store, self._object(sha256)).stream(min_chunk_size=READ):
                yield bytes(piece)
        except FAILURES as error:
            if not is_missing(error):
                raise self._failure(error) from error
            raise CatalogError(
                f"The catalog {self.where}",
                f"has no file of the sha-256 {sha256}",
                "Run the step that puts it again",
            ) from None

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
