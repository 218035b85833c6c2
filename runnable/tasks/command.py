"""The process of a shell's command: how it is started, let go, and what its variables are then.

The shell first reads a line from its standard input, which it gets when it is let go; at the end of
the input (this process has died) it ends without having run anything. The command is an argument
of the shell and never a part of its text.
"""

from __future__ import annotations

import asyncio
import errno
import os
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

from runnable.defaults import MAX_VALUE_BYTES
from runnable.exceptions import LimitError
from runnable.processes import CHILDREN, Leader

SHELL: Final = "/bin/sh"

_HOLD: Final = "read -r _ || exit 125\n"
_RUN: Final = _HOLD + f'exec {SHELL} -c "$1" </dev/null\n'
_RUN_AND_TELL: Final = (
    _HOLD
    + """\
exec </dev/null
trap '{tell}' EXIT
eval "shift; $1"
{{ set -- "$?"; set +x; }} 2>/dev/null
{tell}
exit "$1"
"""
)
"""The trap tells after `exit`, the last lines after the end of a command with a trap of its own."""
_TELL: Final = '{{ set +x; }} 2>/dev/null; {{ command printf "\\0"; {each} }} >>/dev/fd/{file}'
_TELL_ONE: Final = 'case "${{{name}+x}}" in x) command printf "{name}=%s\\0" "${name}";; esac; '


class Command(Leader):
    """A command, run by `/bin/sh` in a session of its own.

    Args:
        process: The shell.
        gate: Whose closing lets it go; a line is written to it before.
        outputs: The ends of its stdout and stderr to read from; whoever reads closes them.
        file: Where it tells its variables; -1 if nobody asks.
    """

    def __init__(self, process: Process, gate: int, outputs: tuple[int, int], file: int) -> None:
        super().__init__(process)
        self.outputs: tuple[int, int] = outputs
        self._gate = gate
        self._file = file
        self._reads = False

    @classmethod
    async def start(
        cls, command: str, returns: Sequence[str], environment: Mapping[str, str]
    ) -> Self:
        """Start a shell, which holds still.

        Args:
            command: What it is to run.
            returns: The variables that are asked for, identifiers of a shell.
            environment: Its variables.

        Raises:
            OSError: If the system has no room for another.
            LimitError: If the system takes no so large an environment.
        """
        opened: list[int] = []
        try:
            for _ in range(3):
                opened += os.pipe()
            held, gate, stdout, its_stdout, stderr, its_stderr = opened
            os.set_blocking(gate, False)
            file = _nameless_file() if returns else -1
            if returns:
                opened.append(file)
            process = await asyncio.create_subprocess_exec(
                SHELL,
                "-c",
                _script(returns, file) if returns else _RUN,
                "sh",
                command,
                stdin=held,
                stdout=its_stdout,
                stderr=its_stderr,
                pass_fds=(file,) if returns else (),
                start_new_session=True,
                env=environment,
            )
        except BaseException as error:
            for descriptor in opened:
                os.close(descriptor)
            if isinstance(error, OSError) and error.errno == errno.E2BIG:
                raise _too_large(command, environment) from error
            raise
        for descriptor in (held, its_stdout, its_stderr):
            os.close(descriptor)
        return cls(process, gate, (stdout, stderr), file)

    def let_go(self) -> tuple[int, int]:
        """Have it run its command; the caller takes over `outputs`."""
        self._reads = True
        with suppress(OSError):  # it was killed: that shows
            os.write(self._gate, b"\n")
        os.close(self._gate)
        self._gate = -1
        return self.outputs

    async def variables(self) -> dict[str, bytes] | None:
        """Name → value of those that were asked for and set; None if its shell did not tell.

        Raises:
            LimitError: If they are too large.
        """
        return await CHILDREN.call(self._told).result()

    def _told(self) -> dict[str, bytes] | None:
        size = os.fstat(self._file).st_size
        if size > 8 * MAX_VALUE_BYTES:
            advice = "Write what is large to a file, and return the file's path."
            raise LimitError("What the variables hold", size, 8 * MAX_VALUE_BYTES, "bytes", advice)
        os.lseek(self._file, 0, os.SEEK_SET)
        with open(self._file, "rb", closefd=False) as file:
            parts = file.read().split(b"\0")
        told: dict[str, bytes] | None = None
        for part in parts[:-1]:
            if not part:  # it begins to tell, maybe once more
                told = {}
            elif told is not None:
                name, _, value = part.partition(b"=")
                told[name.decode()] = value
        return told

    def close(self) -> None:
        """Close what is left open."""
        ends = (self._gate, self._file, *(() if self._reads else self.outputs))
        self._gate = self._file = -1
        self._reads = True
        for descriptor in ends:
            if descriptor >= 0:
                os.close(descriptor)


def _script(returns: Sequence[str], file: int) -> str:
    each = "".join(_TELL_ONE.format(name=name) for name in returns)
    return _RUN_AND_TELL.format(tell=_TELL.format(each=each, file=file))


def _nameless_file() -> int:
    """A file that is gone with the last who has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("returns")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _too_large(command: str, environment: Mapping[str, str]) -> LimitError:
    sizes = {name: len(os.fsencode(name + value)) + 2 for name, value in environment.items()}
    name = max(sizes, key=sizes.__getitem__)
    return LimitError(
        "The environment of a command, with the command itself,",
        sum(sizes.values()) + len(os.fsencode(command)),
        os.sysconf("SC_ARG_MAX"),
        "bytes",
        f"The largest variable is {name!r}, of {sizes[name]:,} bytes. Hand on files instead.",
    )
