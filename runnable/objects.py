"""Object stores that plug-ins keep things in: how one is opened, and what its errors come to."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, S3Store, from_url

from runnable.exceptions import message_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig, S3Config

FAILURES: Final = (BaseError, OSError, NotImplementedError)
"""What a request raises that an object store, or the way to it, has refused."""
_REFUSALS: Final = (PermissionDeniedError, UnauthenticatedError, PermissionError)
_USER: Final = re.compile(r"//[^/\s]*@")
"""Whose requests they are, where an address says so: it may hold a password."""
_LONGEST_WAIT: Final = timedelta(seconds=2)


class ForkedError(OSError):
    """The process was forked from one that uses an object store; its threads are not here."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an object store is, whose requests are made, and how patiently.

    Args:
        url: `s3://bucket/prefix`, or another that obstore knows.
        endpoint: The server's address, if it is not that of the cloud.
        region: The bucket's.
        access_key_id: Whose requests they are; empty: as the cloud's own tools find it.
        secret: What proves that.
        timeout: Seconds that one request may take.
        retries: How often a request that failed is made again.
        patience: Seconds for which it is made again.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret: str = field(default="", repr=False)
    timeout: float = 60.0
    retries: int = 2
    patience: float = 180.0

    @property
    def where(self) -> str:
        """What tells it from all other places: the URL, and the server if it is not the cloud's."""
        url, endpoint = self.url.rstrip("/"), _USER.sub("//", self.endpoint.rstrip("/"))
        return f"{url} at {endpoint}" if endpoint else url

    def open(self) -> ObjectStore:
        """The store; no request is made."""
        if self.url.startswith("memory:"):
            return MemoryStore()
        if self.url.startswith("file:"):
            return LocalStore.from_url(self.url, mkdir=True)
        if self.url.startswith("s3:"):
            return S3Store.from_url(
                self.url,
                config=self._given(),
                client_options=self._client(),
                retry_config=self._retry(),
            )
        return from_url(self.url, client_options=self._client(), retry_config=self._retry())

    def hurried(self, seconds: float) -> Address:
        """The same place for a caller who cannot wait longer than that for one request."""
        return replace(self, timeout=min(self.timeout, seconds), retries=1, patience=seconds)

    def _client(self) -> ClientConfig:
        return {
            "allow_http": self.endpoint.startswith("http://"),
            "timeout": timedelta(seconds=self.timeout),
        }

    def _retry(self) -> RetryConfig:
        return {
            "max_retries": self.retries,
            "retry_timeout": timedelta(seconds=self.patience),
            "backoff": {"max_backoff": _LONGEST_WAIT},
        }

    def _given(self) -> S3Config:
        """What is set here, and not to be looked for elsewhere."""
        given: S3Config = {"virtual_hosted_style_request": not self.endpoint}
        if self.region:
            given["region"] = self.region
        if self.endpoint:
            given["endpoint"] = self.endpoint
        if self.access_key_id:
            given["access_key_id"] = self.access_key_id
        if self.secret:
            given["secret_access_key"] = self.secret
        return given


class Trouble(NamedTuple):
    """What is wrong with an object store.

    `reason` is a verb and what follows, `advice` a sentence without its full stop; `passes` says
    whether the same request may succeed later.
    """

    reason: str
    advice: str
    passes: bool


def is_missing(error: BaseException) -> bool:
    """Whether the error says that there is no such object, in a bucket that is there."""
    return isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error)


def trouble(error: BaseException, service: str, endpoint: str = "") -> Trouble:
    """What an error of a request comes to.

    Args:
        error: What obstore raised.
        service: What the store is used for, such as `catalog`.
        endpoint: The server's address.

    Example:
        >>> trouble(FileNotFoundError("… NoSuchBucket …"), "catalog").reason
        'has no such bucket'
    """
    told, endpoint = _USER.sub("//…@", message_of(error)), _USER.sub("//…@", endpoint)
    if isinstance(error, ForkedError):
        return Trouble(
            "cannot be used here, in a process that was forked from one that uses it",
            "Start processes with 'spawn' or 'forkserver', or fork before the first use",
            passes=False,
        )
    if "NoSuchBucket" in told:
        advice = f"Make it, or set another as the {service}'s bucket"
        return Trouble("has no such bucket", advice, passes=False)
    if isinstance(error, _REFUSALS) or "AccessDenied" in told or "403 Forbidden" in told:
        advice = f"See access_key_id and secret_access_key of the {service}, or the AWS_… variables"
        return Trouble("refuses these credentials", advice, passes=False)
    place = f" at {endpoint}" if endpoint else ""
    return Trouble(
        f"cannot be reached{place}, or failed ({_reason(told)})",
        "See that the server runs and can be reached",
        passes=not isinstance(error, NotImplementedError),
    )


def _reason(told: str) -> str:
    """What a long message comes to: what follows the request and its retries."""
    line = told.partition("\n")[0].rpartition(" - ")[2]
    return line if len(line) <= 200 else f"{line[:200]}…"


class Forks:
    """Whether this process has been forked from one that had made requests over a network.

    The threads that make them are obstore's, one set for the process; in a child they are not
    there, and each request would wait for them for ever.
    """

    def __init__(self) -> None:
        self._is_used = self._is_orphaned = False

    def use(self, address: Address) -> None:
        """Say that a request is about to be made.

        Raises:
            ForkedError: If it would never end.
        """
        if address.url.startswith(("memory:", "file:")):
            return
        if self._is_orphaned:
            raise ForkedError(address.url)
        self._is_used = True

    def after_fork(self) -> None:
        """This is the child."""
        self._is_orphaned = self._is_orphaned or self._is_used


FORKS: Final = Forks()
"""The one of this process."""

os.register_at_fork(after_in_child=FORKS.after_fork)
