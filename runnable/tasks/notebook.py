"""Notebooks as tasks: executed once, in a kernel of their own, with parameters injected."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from keyword import iskeyword
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar, cast

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import from_json

from runnable.binding import Bound
from runnable.blocking import PLAYED, outlive
from runnable.defaults import MAX_VALUE_BYTES, MIB
from runnable.exceptions import (
    DefinitionError,
    KernelDiedError,
    LimitError,
    NotebookError,
    NotebookFileError,
    NotebookReturnError,
    ProcessDiedError,
    ProcessTraceback,
    UnencodableError,
    listed,
    nearest,
)
from runnable.parameters import KINDS, JsonParameter, ObjectParameter, Parameter
from runnable.processes import CHILDREN, TERM_SECONDS, Child
from runnable.scope import HeldChild, Scope
from runnable.tasks.base import BaseTaskType
from runnable.tasks.environment import environment_of
from runnable.tasks.executed import masked_notebook, without_colours
from runnable.tasks.notebook_args import NotebookArgs, read_args
from runnable.tasks.notebook_files import Notebook, check_kernel, missing_module, read_notebook
from runnable.tasks.notebook_protocol import BEGAN, KEPT, LOG, VALUE, VALUES, Facts, Order

CHILD: Final = "runnable.tasks.notebook_child"
"""Where the `main` of the process is that drives the kernel."""
MAX_PICKLE_BYTES: Final = 1024 * MIB
"""The largest pickle that is taken from a kernel."""
INTERRUPT_SECONDS: Final = 2.0
"""From the interrupt of a kernel whose step is left to TERM."""

T = TypeVar("T")


class NotebookTaskType(BaseTaskType):
    """Executes a notebook.

    Args:
        command: Its path, relative to the current folder.
        notebook_args: What its kernel and cells are told.
    """

    task_type: ClassVar[str] = "notebook"
    makes_files: ClassVar[bool] = True

    notebook_args: Annotated[NotebookArgs, BeforeValidator(read_args)] = Field(
        default_factory=NotebookArgs
    )

    @model_validator(mode="after")
    def _is_a_notebook(self) -> Self:
        check_path(self.command)
        return self

    def obstacles(self) -> Iterator[str]:
        """What is missing here and now: the extra, the notebook, its kernel."""
        try:
            if PLAYED.get() is None:  # a simulation opens no files
                self._read()
        except NotebookFileError as error:
            yield str(error)

    def _read(self) -> tuple[Notebook, str]:
        """The notebook and the name of its kernel; off the loop."""
        if module := missing_module():
            reason = f"needs the module {module!r}, which is not installed"
            raise NotebookFileError(self.command, reason, "Install 'runnable[notebook]'.")
        notebook = read_notebook(self.command)
        return notebook, check_kernel(
            self.command, self.notebook_args.kernel_name or notebook.kernel
        )

    def digest(self) -> str:
        """A digest of the code in the notebook's cells; empty if there is no notebook."""
        if PLAYED.get() is not None:
            return super().digest()
        try:
            return read_notebook(self.command).digest
        except NotebookFileError:
            return ""

    def bind(self, scope: Scope) -> Bound:
        """The parameters that can be injected, as Python literals."""
        found: dict[str, Any] = {**scope.parameters, **scope.variables}
        values = {name: value for name, value in found.items() if is_name(name)}
        used: dict[str, Any] = {}
        literals: dict[str, Any] = {}
        for name, value in values.items():
            parameter = _parameter(name, value)
            if parameter.kind != "object":
                used[name] = value
                literals[name] = repr(parameter.get_value())
        return Bound((), literals, used)

    def has_child(self, scope: Scope) -> bool:
        """Always, but in a simulation, which has no processes."""
        return PLAYED.get() is None

    async def start_child(self, scope: Scope) -> HeldChild:
        """The process that will drive the kernel, and wait until it is told which."""
        return await Child.start(CHILD, environment_of(scope, self.secrets, parameters=False))

    async def call(self, arguments: Bound, scope: Scope) -> object:
        """Execute the notebook, and give back what the kernel says of its values."""
        if scope.child is None:
            return None
        for name in _pickled(scope):
            scope.warn(f"the parameter {name!r} is pickled, and was not injected")
        folder = await _through(partial(tempfile.mkdtemp, prefix="runnable-kernel-"), _remove)
        try:
            notebook, kernel = await _in_thread(self._read)
            order = self._order(notebook, kernel, arguments.kwargs, folder)
            return await self._execute(cast("Child", scope.child), order, scope)
        finally:
            if _is_running():
                await _through(partial(_remove, folder))
            else:
                _remove(folder)

    def _order(
        self, notebook: Notebook, kernel: str, literals: Mapping[str, Any], folder: str
    ) -> Order:
        lines = [f"{name} = {literal}" for name, literal in literals.items()]
        return {
            "notebook": notebook.text,
            "code": "\n".join(["# Parameters", *lines]) if lines else "",
            "returns": [[one.name, one.kind] for one in self.declared],
            "limits": {"json": MAX_VALUE_BYTES, "object": MAX_PICKLE_BYTES},
            "folder": folder,
            "kernel": kernel,
            "args": self.notebook_args.model_dump(),
        }

    async def _execute(self, child: Child, order: Order, scope: Scope) -> _Answer:
        conversation = _Talk(self.command, child, scope)
        talk = asyncio.ensure_future(conversation.to_its_end(json.dumps(order).encode()))
        patience = TERM_SECONDS
        try:
            await asyncio.wait([talk])
            return talk.result()
        except GeneratorExit:  # the loop is gone
            child.kill()
            raise
        except asyncio.CancelledError:
            patience = 0.0
            if conversation.began:
                child.interrupt()
                ending = asyncio.ensure_future(asyncio.wait([talk], timeout=INTERRUPT_SECONDS))
                await outlive(ending)
            raise
        finally:
            await child.end(patience)
            if _is_running():
                await _ended(talk)

    def outputs(self, result: object, scope: Scope) -> dict[str, Parameter]:
        """The values of the names in `returns`, as the kernel has encoded them."""
        if result is None:
            return self._played(scope)
        answer = cast("_Answer", result)
        parts = iter(answer.parts)
        found: dict[str, Parameter] = {}
        for one, facts in zip(self.declared, answer.told, strict=True):
            if "fault" in facts:
                raise _fault(self.command, one.name, facts, answer.known)
            data = next(parts)
            if one.kind == "object":
                found[one.name] = ObjectParameter(data, facts["type"], scope.run.pickler.loads)
            else:
                value = from_json(data, allow_inf_nan=False)
                found[one.name] = KINDS[one.kind](value, place=_place(one.name))
        return found

    def _played(self, scope: Scope) -> dict[str, Parameter]:
        """What a simulation, which runs no notebook, has for its values: the parameters."""
        for one in self.declared:
            if one.name not in scope.parameters and one.name not in scope.variables:
                reason = (
                    "and a simulation runs no notebook: give it a parameter of that name, which "
                    "stands for the value"
                )
                raise NotebookReturnError(self.command, one.name, reason)
        return {one.name: scope.find(one.name) for one in self.declared}


class _Answer:
    """What a notebook has come to.

    Args:
        told: Of each name in `returns`, what became of it.
        known: The names that the notebook sets.
        parts: The encoded values, in the order of those that could be encoded.
    """

    def __init__(self, told: list[dict[str, Any]], known: list[str], parts: list[bytes]) -> None:
        self.told, self.known, self.parts = told, known, parts


class _Talk:
    """The conversation with the process that drives the kernel."""

    def __init__(self, notebook: str, child: Child, scope: Scope) -> None:
        self._notebook, self._child, self._scope = notebook, child, scope
        self._parts: list[bytes] = []
        self.began = False
        """Whether the process knows what to do with an interrupt."""

    async def to_its_end(self, order: bytes) -> _Answer:
        """Send the order, hand on what comes, and give back the answer.

        Raises:
            NotebookError: If a cell failed.
            KernelDiedError: If the kernel did.
            ProcessDiedError: If the process that drives it did.
        """
        await self._child.send(order)
        while (frame := await self._child.receive()) is not None:
            kind, body = frame[:1], frame[1:]
            if kind == LOG:
                # Written here, in the step's own context, it is masked, kept and shown.
                stream = sys.stderr if body[:1] == b"e" else sys.stdout
                stream.write(body[1:].decode(errors="surrogatepass"))
            elif kind == BEGAN:
                self.began = True
            elif kind == KEPT:
                await self._keep(body)
            elif kind == VALUE:
                self._parts.append(body)
            elif kind == VALUES:
                found = from_json(body)
                return _Answer(found["values"], found["known"], self._parts)
            else:
                raise self._failure(cast("Facts", json.loads(body)))
        raise ProcessDiedError(self._scope.path, await self._child.returncode())

    async def _keep(self, data: bytes) -> None:
        name = f"{self._notebook.rpartition('/')[2].removesuffix('.ipynb')}"
        scope = self._scope
        whole = await _in_thread(partial(masked_notebook, data, scope.run.masker))
        if scope.files is not None:
            await scope.files.keep(f"{name}.{scope.path}.{scope.attempt}.ipynb", whole)

    def _failure(self, facts: Facts) -> Exception:
        """The error that the facts tell of."""
        cell, source, evalue = facts["cell"], facts["source"], facts["evalue"]
        error: Exception
        match facts["why"]:
            case "cell":
                trace = without_colours("\n".join(facts["trace"]))
                ename, evalue = facts["ename"], without_colours(evalue)
                error = NotebookError(self._notebook, cell, source, ename, evalue, trace)
                error.__cause__ = ProcessTraceback(f'\n"""\n{trace}\n"""')
            case "timeout":
                told = "it took longer than the timeout that notebook_args gives a cell"
                error = NotebookError(self._notebook, cell, source, "CellTimeoutError", told)
            case "died":
                code, words = facts["returncode"], without_colours(facts["words"])
                error = KernelDiedError(self._notebook, cell, source, code, words)
            case "left":
                error = NotebookError(self._notebook, cell, source, "KeyboardInterrupt", "")
            case _:
                error = NotebookError(self._notebook, cell, source, "KernelError", evalue)
        return error


def check_path(path: str) -> str:
    """A notebook's path.

    Raises:
        DefinitionError: If it does not end in `.ipynb`.
    """
    if not path.endswith(".ipynb"):
        raise DefinitionError(
            f"notebook is {path!r}; it must be the path of a notebook, which ends in '.ipynb'."
        )
    return path


def is_name(name: str) -> bool:
    """Whether a cell can assign to that name; not to those that mean something to Python itself.

    Example:
        >>> [is_name(name) for name in ("rate", "learning rate", "class", "__builtins__")]
        [True, False, False, False]
    """
    dunder = name.startswith("__") and name.endswith("__")
    return name.isidentifier() and not iskeyword(name) and not dunder


def _parameter(name: str, value: object) -> Parameter:
    if isinstance(value, Parameter):
        return value
    return JsonParameter(value, place=f"the iteration variable {name!r}")


def _pickled(scope: Scope) -> list[str]:
    """The parameters that no cell can hold."""
    found: dict[str, object] = {**scope.parameters, **scope.variables}
    return [
        name
        for name, value in found.items()
        if isinstance(value, Parameter) and value.kind == "object"
    ]


def _fault(notebook: str, name: str, facts: Mapping[str, Any], known: list[str]) -> Exception:
    """Why a name in `returns` gives no value."""
    match facts["fault"]:
        case "unset":
            there = listed(nearest(name, known)) or "none"
            reason = f"which none of its cells sets (there are: {there})"
            return NotebookReturnError(notebook, name, reason)
        case "unfit":
            return UnencodableError(f"{_place(name)}{facts['place']}", facts["reason"])
        case "long":
            advice = "Write it to a file and return the file's path."
            return LimitError(_place(name), facts["size"], facts["limit"], "bytes", advice)
        case _:
            reason = f"of the type {facts['type']!r}, which cannot be pickled ({facts['reason']})"
            return NotebookReturnError(notebook, name, reason)


def _place(name: str) -> str:
    return f"The notebook's {name}"


def _is_running() -> bool:
    """Whether the loop that this is on still runs; a coroutine may be closed after it has gone."""
    try:
        return asyncio.get_running_loop().is_running()
    except RuntimeError:
        return False


async def _in_thread(work: Callable[[], T]) -> T:
    return await CHILDREN.call(work).result()


async def _through(work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
    """Do something short in a thread; a cancel waits for it, and undoes it if that is needed."""
    doing = asyncio.ensure_future(_in_thread(work))
    cancelled = await outlive(doing)
    result = doing.result()
    if cancelled is not None:
        if undo is not None:
            undoing = asyncio.ensure_future(_in_thread(partial(undo, result)))
            await outlive(undoing)
        raise cancelled
    return result


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


async def _ended(talk: asyncio.Future[Any]) -> None:
    """Have a conversation end whose other side is gone; it may still be keeping the notebook."""
    cancelled = await outlive(talk)
    if not talk.cancelled():
        talk.exception()  # taken: whoever is interested has it already
    if cancelled is not None:
        raise cancelled


__all__ = ["NotebookTaskType", "check_path"]
