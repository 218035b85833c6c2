"""The kernel of a notebook as a process, and its cells as they run."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, cast

import nbformat
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from nbclient import NotebookClient

from runnable.defaults import MAX_OUTPUT_BYTES, MIB
from runnable.tasks.child import Channel
from runnable.tasks.notebook_protocol import LOG

_CUT: Final = f"… cut here: the output is longer than {MAX_OUTPUT_BYTES // MIB} MiB\n"
_SHOWN: Final = 4_000
"""Characters that the log shows of what a cell displays."""
_TAIL: Final = 4_000
"""Bytes of what a kernel wrote past its cells that are told when it dies."""
LAST_WORDS_SECONDS: Final = 0.2
"""Seconds in which what a kernel said before it died may still arrive."""


class InGroup(LocalProvisioner):
    """Starts the kernel in this process's group, and keeps the end of what it writes past cells."""

    tail: deque[bytes]
    _reading: threading.Thread

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start it."""
        process = subprocess.Popen(  # noqa: ASYNC220 -- nothing else is on this loop yet
            cmd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=kwargs.get("cwd"),
            # Without this process it ends by itself, should nothing be left to end it.
            env={**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())},
        )
        self.process = cast("Any", process)
        self.pid, self.pgid = process.pid, None  # signals of nbclient go to the kernel alone
        self.cwd = kwargs.get("cwd")
        self.tail = deque(maxlen=4)
        self._reading = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reading.start()
        return self.connection_info

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        while data := os.read(process.stderr.fileno(), _TAIL):
            self.tail.append(data)

    def last_words(self) -> str:
        """The end of what the kernel's process has written past its cells."""
        self._reading.join(LAST_WORDS_SECONDS)
        return b"".join(self.tail)[-_TAIL:].decode(errors="replace")


class Cells(NotebookClient):
    """Runs cells, and hands on what they put out as it comes."""

    channel: Channel
    room = MAX_OUTPUT_BYTES
    """Bytes of streams that the executed notebook still takes."""

    def process_message(
        self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int
    ) -> nbformat.NotebookNode | None:
        """Hand a message on, and have it put into the notebook."""
        content: dict[str, Any] = msg["content"]
        match msg["msg_type"]:
            case "stream":
                name, text = str(content["name"]), str(content["text"])
                _log(self.channel, name, text)
                if self.room < 0:
                    return None
                self.room -= len(text)
                if self.room < 0:
                    content["text"] = text[: self.room] + _CUT
            case "display_data" | "execute_result":
                _log(self.channel, "stdout", shown(content["data"]))
            case _:
                pass
        return super().process_message(msg, cell, cell_index)


def _log(channel: Channel, stream: str, text: str) -> None:
    sign = b"e" if stream == "stderr" else b"o"
    channel.send(LOG, sign + text.encode(errors="surrogatepass"))


def shown(data: Mapping[str, Any]) -> str:
    """What the log says of something displayed: its text, cut; of an image its type and size.

    Example:
        >>> shown({"text/plain": "<Figure>", "image/png": "aGVsbG8="})
        '[image/png, 8 characters]\\n'
        >>> shown({"text/plain": "42", "text/html": "<b>42</b>"})
        '42\\n'
    """
    for kind, content in data.items():
        if kind.startswith("image/"):
            return f"[{kind}, {len(content):,} characters]\n"
    text = data.get("text/plain")
    if not isinstance(text, str):
        return f"[{', '.join(data) or 'nothing'}]\n"
    return f"{text}\n" if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text):,} characters)\n"


__all__ = ["LAST_WORDS_SECONDS", "Cells", "InGroup", "shown"]
