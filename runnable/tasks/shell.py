"""Commands of a shell as tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Self, cast

from pydantic import AfterValidator, model_validator

from runnable.binding import Bound
from runnable.blocking import PLAYED
from runnable.defaults import KIB
from runnable.exceptions import (
    DefinitionError,
    LimitError,
    ShellError,
    ShellReturnsError,
    VariableError,
    listed,
)
from runnable.parameters import KINDS, Parameter, TaskReturns, from_text
from runnable.scope import HeldChild, Scope
from runnable.tasks.base import BaseTaskType
from runnable.tasks.command import Command
from runnable.tasks.environment import (
    environment_of,
    is_guarded,
    obstacle,
    text_of,
    values_of,
)
from runnable.tasks.output import Output

MAX_COMMAND_BYTES: Final = 128 * KIB - 1
"""What Linux takes as one argument of a program."""
LINGER_SECONDS: Final = 0.5
"""How long what the command has left running may write on, once its shell has ended."""

_VARIABLE: Final = re.compile("[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def check_command(command: str) -> str:
    """Give a command back if a shell can be given it.

    Raises:
        DefinitionError: If it is empty, or no text that a system call takes.
        LimitError: If it is longer than 128 KiB.
    """
    if not command.strip():
        raise DefinitionError("The command of a shell task is empty. Give it something to run.")
    try:
        size = len(command.encode())
    except UnicodeEncodeError:
        raise DefinitionError(
            "The command of a shell task has half of a character (a lone surrogate) in it."
        ) from None
    if "\0" in command:
        raise DefinitionError("The command of a shell task has a NUL character in it.")
    if size > MAX_COMMAND_BYTES:
        advice = "Write it to a file, and run that."
        raise LimitError("The command of a shell task", size, MAX_COMMAND_BYTES, "bytes", advice)
    return command


def check_returns(returns: Sequence[TaskReturns]) -> None:
    """Check that a shell can set the variables in `returns`.

    Raises:
        DefinitionError: If it cannot set one of them.
    """
    for declared in returns:
        name = declared.name
        if declared.kind == "object":
            raise DefinitionError(
                f"A shell task returns variables, which are text, and so not pickled({name!r}). "
                f"Have its command write a file, and return the file's path."
            )
        if not _VARIABLE.fullmatch(name):
            raise DefinitionError(
                f"A shell task returns {name!r}, which a shell takes for no variable. Use the "
                f"letters A to Z, digits and underscores."
            )
        if is_guarded(name):
            raise DefinitionError(
                f"A shell task returns {name!r}, a variable that programs obey. Have its command "
                f"set another one to that value."
            )


class ShellTaskType(BaseTaskType):
    """Runs a command with `/bin/sh`: its parameters are variables, and so is what it returns.

    Args:
        command: A command line, or a script.
    """

    task_type: ClassVar[str] = "shell"

    command: Annotated[str, AfterValidator(check_command)] = ""

    @model_validator(mode="after")
    def _has_a_command(self) -> Self:
        check_command(self.command)
        check_returns(self.declared)
        return self

    def reads(self, name: str) -> bool:
        """Whether the command's own text expands that variable."""
        return re.search(rf"\$\{{?[#!]?{re.escape(name)}(?![A-Za-z0-9_])", self.command) is not None

    def bind(self, scope: Scope) -> Bound:
        """The values that the command gets as variables.

        Raises:
            VariableError: If the command reads one that no variable can hold.
        """
        used: dict[str, Parameter] = {}
        for name, parameter in values_of(scope, parameters=True).items():
            reason = obstacle(name, parameter)
            if not reason:
                used[name] = parameter
            elif self.reads(name) and not is_guarded(name):
                raise VariableError(scope.path, name, reason)
        return Bound((), {}, used)

    def has_child(self, scope: Scope) -> bool:
        """Always, but in a simulation, which has no processes."""
        return PLAYED.get() is None

    async def start_child(self, scope: Scope) -> HeldChild:
        """The shell, which holds still.

        A variable that it inherits, and that the command is to set, is taken away, so that it does
        not count as set.
        """
        environment = environment_of(scope, self.secrets, parameters=True)
        given = values_of(scope, parameters=True)
        returns = [declared.name for declared in self.declared]
        for name in returns:
            if name not in given and name not in self.secrets:
                environment.pop(name, None)
        return await Command.start(self.command, returns, environment)

    async def call(self, arguments: Bound, scope: Scope) -> object:
        """Let the shell run the command, and give back what it set the variables to.

        Raises:
            ShellError: If it ended with another exit status than 0.
        """
        if scope.child is None:
            return self._played(arguments)
        self._warn_of_what_is_left_out(scope)
        command = cast("Command", scope.child)
        ends = command.let_go()
        stdout, stderr = Output(ends[0], "stdout", scope), Output(ends[1], "stderr", scope)
        try:
            status, told = await self._to_its_end(command, stdout, stderr)
        finally:
            await Output.close(stdout, stderr)
        if status != 0:
            last = stderr.last_lines() or stdout.last_lines()
            raise ShellError(scope.path, status, last)
        return told

    async def _to_its_end(
        self, command: Command, *outputs: Output
    ) -> tuple[int | None, dict[str, bytes] | None]:
        """Wait for its shell, and end what that has left running: the status and the variables."""
        try:
            status = await command.returncode(None)
            await Output.ended(LINGER_SECONDS, *outputs)
            has_told = self.returns and status == 0
            return status, await command.variables() if has_told else None
        except GeneratorExit:  # the loop is gone
            command.kill()
            raise
        finally:
            await command.end()

    def _warn_of_what_is_left_out(self, scope: Scope) -> None:
        left = [
            f"{name!r} ({reason})"
            for name, parameter in values_of(scope, parameters=True).items()
            if (reason := obstacle(name, parameter))
        ]
        if left:
            scope.warn(f"Not among the variables of the command: {listed(left)}.")

    def _played(self, arguments: Bound) -> dict[str, bytes]:
        """What a simulation, which runs no command, has for its variables: the parameters."""
        return {
            name: text_of(parameter).encode()
            for name, parameter in arguments.used.items()
            if isinstance(parameter, Parameter)
        }

    def outputs(self, result: object, scope: Scope) -> dict[str, Parameter]:
        """The variables in `returns`: JSON where it parses, else text.

        Raises:
            ShellReturnsError: If one was not set, or holds what cannot be kept.
        """
        if not self.returns:
            return {}
        told = cast("dict[str, bytes] | None", result)
        missing = [one.name for one in self.declared if told is None or one.name not in told]
        if missing or told is None:
            raise _not_set(scope, missing, has_told=told is not None)
        return {one.name: self._value(one, told[one.name], scope) for one in self.declared}

    def _value(self, declared: TaskReturns, data: bytes, scope: Scope) -> Parameter:
        name = declared.name
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            reason = f"which holds bytes that are no UTF-8 text (at {error.start:,})"
            advice = "Encode it, as `base64` does, or write it to a file."
            raise ShellReturnsError(scope.path, [name], reason, advice) from None
        parameter = from_text(text, f"${name}")
        if declared.kind == "json":
            return parameter
        if isinstance(parameter.get_value(), str) and not text.lstrip().startswith('"'):
            reason = "which is a metric and holds no number, nor other JSON"
            advice = "Set it to a number, as in `export loss=0.25`."
            raise ShellReturnsError(scope.path, [name], reason, advice)
        return KINDS[declared.kind].from_encoded(parameter.encoded)


def _not_set(scope: Scope, missing: Sequence[str], *, has_told: bool) -> ShellReturnsError:
    if PLAYED.get() is not None:
        reason = "and a simulation runs no command"
        advice = "Give the simulation parameters of these names: they stand for what it would set."
    elif has_told:
        reason = "and has not set that" if len(missing) == 1 else "and has not set them"
        advice = (
            f"Set them in the command's own shell, as with `export {missing[0]}=…`; what a program "
            f"or a subshell sets is lost when that ends."
        )
    else:
        reason = "and its shell has ended without telling its variables"
        advice = (
            "That is so after `exec`, and after `exit` where the command has set a trap on EXIT of "
            "its own: let it come to its end instead."
        )
    return ShellReturnsError(scope.path, missing, reason, advice)
