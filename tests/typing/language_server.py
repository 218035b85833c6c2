"""A client of pyright's language server, as an editor is one: JSON-RPC over its pipes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any, Self

CURSOR = "‸"
"""Where the cursor stands in a text."""


class LanguageServer:
    """The server, with one folder open; it is killed if it does not answer in time.

    Args:
        folder: The project.
        deadline: Seconds that all of it may take.
    """

    def __init__(self, folder: Path, deadline: float) -> None:
        self._folder = folder
        self._asked = self._opened = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # it has a process of its own, which is to go with it
        )
        self._killer = Timer(deadline, self._kill)
        self._killer.start()

    def __enter__(self) -> Self:
        root = self._folder.as_uri()
        self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": root,
                "workspaceFolders": [{"uri": root, "name": "project"}],
                "capabilities": {
                    "workspace": {"configuration": True, "workspaceFolders": True},
                    "textDocument": {"hover": {"contentFormat": ["plaintext"]}},
                },
            },
        )
        self._send({"method": "initialized", "params": {}})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._killer.cancel()
        self._kill()
        self._process.communicate()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def completions(self, text: str) -> set[str]:
        """What is offered at the cursor."""
        return {item["label"] for item in self._ask("completion", text)["items"]}

    def signature(self, text: str) -> str:
        """The signature that is shown at the cursor."""
        return self._ask("signatureHelp", text)["signatures"][0]["label"]

    def hover(self, text: str) -> str:
        """What is shown of the name at the cursor."""
        return self._ask("hover", text)["contents"]["value"]

    def _ask(self, what: str, text: str) -> Any:
        before, _, after = text.partition(CURSOR)
        self._opened += 1
        uri = (self._folder / f"file_{self._opened}.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": before + after}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        lines = before.split("\n")
        position = {"line": len(lines) - 1, "character": len(lines[-1])}
        return self.request(
            f"textDocument/{what}", {"textDocument": {"uri": uri}, "position": position}
        )

    def request(self, method: str, params: Any) -> Any:
        """The server's answer; what it asks of us meanwhile is answered, too."""
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": self._answer(message)})
            elif message.get("id") == self._asked:
                assert "error" not in message, message["error"]
                return message["result"]

    def _answer(self, message: dict[str, Any]) -> Any:
        if message["method"] != "workspace/configuration":
            return None
        settings = {"python": {"pythonPath": sys.executable}}
        return [settings.get(item.get("section"), {}) for item in message["params"]["items"]]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while header := self._process.stdout.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended, or was killed at the deadline"
        return json.loads(self._process.stdout.read(length))
