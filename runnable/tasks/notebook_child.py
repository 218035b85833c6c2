"""The process between a notebook step and its kernel: it speaks Jupyter's protocol, and ends both.

nbclient, its sockets and its threads live here. The kernel is in the process group of this process,
so whatever ends the group ends the kernel and what that has started.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from runnable.tasks import in_kernel
from runnable.tasks.child import Channel
from runnable.tasks.notebook_kernel import LAST_WORDS_SECONDS, Cells, InGroup
from runnable.tasks.notebook_protocol import (
    BEGAN,
    FAILED,
    INJECTED,
    KEPT,
    PARAMETERS,
    VALUE,
    VALUES,
    Facts,
    Order,
)

_SHORT_FLUSHES: Final = (
    "[setattr(getattr(__import__('sys'), name), 'flush_timeout', 0.2) "
    "for name in ('stdout', 'stderr')]"
)
_ANSWER_SECONDS: Final = 1.0
"""In which a kernel whose cells are done answers."""


class Interrupted(Exception):
    """The step was left."""


def failure(why: str, cell: int = 0, source: str = "", **more: Any) -> Facts:
    """What the parent is told of a failure."""
    nothing: dict[str, Any] = {
        "ename": "",
        "evalue": "",
        "trace": [],
        "returncode": None,
        "words": "",
    }
    return cast("Facts", {"why": why, "cell": cell, "source": source, **nothing, **more})


class Driver:
    """One execution of one notebook.

    Args:
        order: What is to be done.
        channel: Takes what comes of it.
    """

    def __init__(self, order: Order, channel: Channel) -> None:
        self._order = order
        self._channel = channel
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notebook without ids of its cells is fine
            self._notebook = cast("Any", nbformat).reads(order["notebook"], as_version=4)
        self._injected = inject(self._notebook, order["code"])
        self._cell = 0
        """The number of the cell that runs, as the notebook's reader counts; 0 for none."""
        self._source = ""
        self._asked_to_end = False
        self._died = asyncio.Event()
        self._returncode: int | None = None
        self._kernel: AsyncKernelManager | None = None
        self._client: Cells | None = None
        self._provisioner: InGroup | None = None

    async def run(self) -> None:
        """Run it, say what came of it, and have the kernel end."""
        loop, work = asyncio.get_running_loop(), asyncio.ensure_future(self._work())

        def leave() -> None:
            work.cancel()

        def interrupt() -> None:  # the kernel gets it too, and its cell says so
            self._asked_to_end = True
            if not self._cell:
                work.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        loop.add_signal_handler(signal.SIGTERM, leave)
        self._channel.send(BEGAN)
        failure = await self._failure_of(work)
        self._channel.send(KEPT, self._executed())
        if failure is None:
            self._send_values()
        else:
            self._channel.send(FAILED, json.dumps(failure).encode())
        await self._end_kernel()

    async def _failure_of(self, work: asyncio.Future[None]) -> Facts | None:
        try:
            await work
        except CellExecutionError as error:
            found = [one for one in self._outputs() if one["output_type"] == "error"]
            lines = found[-1]["traceback"] if found else [str(error)]
            return self._facts("cell", ename=error.ename, evalue=error.evalue, trace=lines)
        except CellTimeoutError:
            return self._facts("timeout")
        except (DeadKernelError, asyncio.CancelledError, Interrupted, Exception) as error:
            if self._died.is_set() or self._is_dead():
                with suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await self._died.wait()
                words = self._provisioner.last_words() if self._provisioner is not None else ""
                return self._facts("died", returncode=self._returncode, words=words)
            if isinstance(error, asyncio.CancelledError | Interrupted | DeadKernelError):
                return self._facts("left")
            return self._facts("kernel", evalue=f"{type(error).__name__}: {error}")
        return None

    def _facts(self, why: str, **more: Any) -> Facts:
        return failure(why, self._cell, self._source, **more)

    def _outputs(self) -> list[Any]:
        return [one for cell in self._notebook.cells for one in cell.get("outputs", ())]

    def _is_dead(self) -> bool:
        process = self._provisioner.process if self._provisioner is not None else None
        return process is not None and process.poll() is not None

    async def _work(self) -> None:
        client = await self._start()
        self._watch(client)
        cells = self._notebook.cells
        for index, cell in enumerate(cells):
            if index != self._injected:
                self._cell = index + 1 - (0 <= self._injected < index)
                self._source = next(iter(cell.source.strip().splitlines()), "")[:200]
            else:
                self._cell, self._source = 0, "the injected parameters"
            await client.async_execute_cell(cell, index, client.code_cells_executed + 1)
            if self._asked_to_end:
                raise Interrupted
        self._cell = 0
        await self._collect(client)

    def _timeout(self, _: object) -> float | None:
        """Seconds that a cell may take."""
        return self._order["args"]["timeout"]

    async def _start(self) -> Cells:
        order, args = self._order, self._order["args"]
        folder = order["folder"]
        # Sockets that are files need no port; their names must be short.
        is_short = len(os.fsencode(folder)) < 80
        kernel = self._kernel = AsyncKernelManager(
            kernel_name=order["kernel"],
            transport="ipc" if is_short else "tcp",
            connection_file=f"{folder}/kernel.json",
        )
        cast("Any", kernel).context.rcvhwm = 0  # a kernel drops what its reader has no room for
        kernel.kernel_id = str(uuid.uuid4())
        self._provisioner = kernel.provisioner = InGroup(
            kernel_id=kernel.kernel_id, kernel_spec=kernel.kernel_spec, parent=kernel
        )
        client = Cells(
            self._notebook,
            km=kernel,
            store_widget_state=False,
            timeout_func=self._timeout,
            **{key: args[key] for key in _PASSED_ON},
        )
        client.channel = self._channel
        await client.async_start_new_kernel(env=dict(os.environ), cwd=args["cwd"] or None)
        threading.Thread(target=self._wait, args=(asyncio.get_running_loop(),), daemon=True).start()
        client.kc = kernel.client()
        client.kc.start_channels(stdin=False, hb=False)
        ready = asyncio.ensure_future(client.kc.wait_for_ready(timeout=args["startup_timeout"]))
        died = asyncio.ensure_future(self._died.wait())
        await asyncio.wait([ready, died], return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            raise DeadKernelError
        await ready
        client.kc.allow_stdin = False
        self._client = client
        return client

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        process = cast("Any", self._provisioner).process
        self._returncode = process.wait()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._died.set)

    def _watch(self, client: Cells) -> None:
        """Have the cell that runs fail as soon as the kernel has died."""

        async def watch() -> None:
            await self._died.wait()
            await asyncio.sleep(LAST_WORDS_SECONDS)
            if client.task_poll_for_reply is not None:
                client.task_poll_for_reply.cancel()

        self._watching = asyncio.ensure_future(watch())

    async def _collect(self, client: Cells) -> None:
        """Have the kernel write the values of `returns` into files."""
        order, kc = self._order, client.kc
        if not order["returns"] or kc is None:
            return
        source = await asyncio.to_thread(Path(in_kernel.__file__).read_text)
        wanted, limits = order["returns"], order["limits"]
        call = f"s['collect'](n, {wanted!r}, {order['folder']!r}, {limits!r})"
        expression = (
            "(lambda s, n: (__import__('builtins').exec(" + repr(source) + f", s), {call})[1])"
            "({'__name__': 'runnable_values'}, get_ipython().user_ns)"
        )
        message = kc.execute("", silent=True, user_expressions={"values": expression})
        reply = asyncio.ensure_future(client.async_wait_for_reply(message))
        client.task_poll_for_reply = reply
        try:
            answer = await reply
        except asyncio.CancelledError:
            raise DeadKernelError from None
        result = cast("Any", answer)["content"].get("user_expressions", {}).get("values", {})
        if result.get("status") != "ok":
            raise RuntimeError(f"{result.get('ename')}: {result.get('evalue')}")

    def _send_values(self) -> None:
        if not self._order["returns"]:
            self._channel.send(VALUES, b'{"values":[],"known":[]}')
            return
        folder = Path(self._order["folder"])
        told = (folder / "values.json").read_bytes()
        for number, value in enumerate(json.loads(told)["values"]):
            if "fault" not in value:
                self._channel.send(VALUE, (folder / str(number)).read_bytes())
        self._channel.send(VALUES, told)

    def _executed(self) -> bytes:
        """The notebook as it stands; each stream of a cell is one piece, so that it can be masked.

        nbclient's own `coalesce_streams` takes time that is quadratic in the length of a line.
        """
        for cell in self._notebook.cells:
            streams: dict[str, Any] = {}
            kept: list[Any] = []
            for output in cell.get("outputs", ()):
                before = streams.get(output["name"]) if output["output_type"] == "stream" else None
                if before is not None:
                    before["text"] += output["text"]
                    continue
                if output["output_type"] == "stream":
                    streams[output["name"]] = output
                kept.append(output)
            if "outputs" in cell:
                cell.outputs = kept
        return json.dumps(self._notebook).encode()

    async def _end_kernel(self) -> None:
        """Interrupt what runs, and let the kernel end by itself; the group is ended after that."""
        kernel = self._kernel
        if kernel is None or not kernel.has_kernel or self._died.is_set():
            return
        if self._cell and not self._asked_to_end:
            with suppress(Exception):
                await cast("Any", kernel).interrupt_kernel()
        with suppress(Exception):
            await self._shorten_farewell()
        with suppress(Exception):
            await cast("Any", kernel).request_shutdown()
            await self._died.wait()

    async def _shorten_farewell(self) -> None:
        """Keep the kernel from a wait of 10 seconds at its end.

        One of ipykernel's threads flushes a stream through another that may have been stopped.
        """
        client = self._client
        if client is not None and client.kc is not None:
            client.kc.execute("", silent=True, user_expressions={"": _SHORT_FLUSHES})
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.kc.shell_channel.get_msg()


_PASSED_ON: Final = (
    "interrupt_on_timeout",
    "allow_errors",
    "allow_error_names",
    "skip_cells_with_tag",
    "record_timing",
    "extra_arguments",
)


def inject(notebook: Any, code: str) -> int:
    """Put the cell with the parameters after the one tagged `parameters`, or first; give its index.

    One that an earlier execution has left is taken out. -1 if there are none to inject.
    """
    cells = notebook.cells
    cells[:] = [cell for cell in cells if INJECTED not in _tags(cell)]
    if not code:
        return -1
    place = next((i + 1 for i, cell in enumerate(cells) if PARAMETERS in _tags(cell)), 0)
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": [INJECTED]})  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        del cell["id"]
    cells.insert(place, cell)
    return place


def _tags(cell: Any) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def main(descriptor: int) -> None:
    """Do what comes through that socket, and end."""
    folder = ""

    def remove_folder() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    warnings.simplefilter("ignore")
    channel = Channel(descriptor, remove_folder)
    try:
        order: Order = json.loads(channel.receive())
    except EOFError:  # the parent has changed its mind
        return
    folder = order["folder"]
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(Driver(order, channel).run())
    except BaseException as error:
        facts = failure("kernel", evalue=f"{type(error).__name__}: {error}")
        with suppress(Exception):
            channel.send(FAILED, json.dumps(facts).encode())
    finally:
        os._exit(0)  # nothing here is worth waiting for: the parent removes the files
