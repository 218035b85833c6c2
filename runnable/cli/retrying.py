"""What a run is to be gone on with: what it was begun with, if that can be trusted."""

from __future__ import annotations

import shlex
from typing import Final

from runnable.config import load_services
from runnable.defaults import SUCCESS
from runnable.exceptions import (
    OriginError,
    PickleKeyError,
    RunFinishedError,
    RunHeldError,
    UntrustedPickleError,
)
from runnable.names import check_run_id
from runnable.origin import PURPOSE, Origin
from runnable.pickler import BasePickler
from runnable.store import Owner

_NAMED: Final = "runnable retry {run_id} TARGET, where TARGET is a YAML file or module:attribute"


def target_of(run_id: str, configuration_file: str, *, named: str = "") -> str:
    """The YAML file or `module:attribute` of a run that can be gone on with.

    A record names code here, so it is followed only if its keyed digest shows that it was written
    with this project's key, for this run.

    Args:
        run_id: The run.
        configuration_file: The configuration that names its store.
        named: What the user has named; then nothing is taken from the record.

    Raises:
        RunNotFoundError: If there is no such run.
        RunFinishedError: If it ended with success.
        RunHeldError: If a live process holds it.
        OriginError: If it does not tell, or nobody vouches for what it tells.
    """
    services = load_services(configuration_file, interactive_default="local")
    store = services.run_log_store
    log = store.get_run_log_by_id(check_run_id(run_id))
    if log.status == SUCCESS:
        raise RunFinishedError(run_id)
    found = store.lease(run_id, Owner.current(), "look")
    if found.live and found.owner is not None:
        raise RunHeldError(run_id, str(found.owner))
    return named or _trusted(run_id, log.origin or Origin("session"), services.pickler)


def _trusted(run_id: str, origin: Origin, pickler: BasePickler) -> str:
    name_it = _NAMED.format(run_id=run_id)
    if origin.kind == "session" or not origin.target:
        reason = "was begun in a session or a program that says of itself no more than that"
        raise OriginError(run_id, reason, name_it)
    if origin.kind == "script":
        reason = "was begun by a script, which is to be started again"
        raise OriginError(run_id, reason, f"RUNNABLE_RETRY_RUN_ID={run_id} {_started(origin)}")
    try:
        pickler.check(origin.mac, run_id, "", PURPOSE, origin.vouched())
    except (UntrustedPickleError, PickleKeyError):
        reason = (
            f"says that it was begun with {origin.target!r}, and nobody vouches for it: its keyed "
            f"digest is missing, or was made with another key. If that is right, name it"
        )
        command = f"runnable retry {run_id} {_as_argument(origin.target)}"
        raise OriginError(run_id, reason, command, refused=True) from None
    return origin.target


def _started(origin: Origin) -> str:
    """How a script is started; quoted, for a record may hold anything."""
    module, _, name = origin.target.partition(" ") if origin.target.startswith("-m ") else ("",) * 3
    given = f"-m {shlex.quote(name)}" if module else _as_argument(origin.target)
    return " ".join(["python", given, *(["…"] if origin.arguments else [])])


def _as_argument(target: str) -> str:
    """A path for a shell; one that begins as an option does would be taken for one."""
    return shlex.quote(f"./{target}" if target.startswith("-") else target)
