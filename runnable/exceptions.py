"""Every error of ours, under one base to catch; the class takes facts and builds the sentence.

RunnableError
├── DefinitionError (ValueError)        a pipeline that cannot be built
│   ├── PipelineFileError               YAML that cannot be read, or makes no pipeline
│   ├── UnwritableError                 a pipeline that cannot be written as YAML
│   ├── InvalidNameError                a step, branch, parameter or run with a name it may not have
│   ├── GraphError                      steps that do not make a graph
│   ├── CheckError                      steps that cannot work together, whatever they are given
│   └── ReducerError                    a reducer that cannot be used, or does more than it may
├── InputError (ValueError)             what a call or a file gives
│   ├── ParametersFileError             a parameters file that cannot be read
│   ├── ConfigurationError              a configuration that cannot be read or means nothing
│   │   └── PluginError                 a plug-in that is unknown or broken
│   ├── TargetError                     a file or module:attribute that gives nothing to run
│   ├── NotebookFileError               a notebook that is not there, or that no kernel can run
│   ├── TaskDocumentError               a worker was told what it cannot carry out
│   ├── MissingParameterError           a step needs a value that nothing gives
│   ├── MissingSecretError              a step names a secret that nobody has
│   ├── SecretsError                    secrets that cannot be read
│   └── LimitError                      something is larger than its limit
├── StepError                           what goes wrong with one step while it runs
│   ├── BindingError (ValueError)       a value that does not fit its argument
│   ├── ReturnsError (ValueError)       what a function gave back does not fit its `returns`
│   ├── UnencodableError (ValueError)   a value that JSON cannot hold, with the path to the place
│   ├── PickleError (ValueError)        a value that cannot be pickled
│   ├── UnpickleError (ValueError)      a stored object that cannot be made again
│   │   └── UntrustedPickleError        one that nobody vouches for: its keyed digest is not right
│   ├── PickleKeyError (ValueError)     the key of those digests cannot be used
│   ├── StreamError (ValueError)        a stream that goes on after its end marker
│   ├── MetricError (ValueError)        a metric that is no number
│   ├── SecretLeakError (ValueError)    a value that holds a secret and would be stored
│   ├── StepTimeoutError (TimeoutError) an attempt that took longer than its `timeout`
│   ├── ThreadsHeldError                all worker threads go on with functions that were left
│   ├── ProcessDiedError                the process of a step ended before its function did
│   ├── ShellError                      a command that ended with another exit status than 0
│   ├── ShellReturnsError (ValueError)  variables in `returns` that a command has not set so
│   ├── VariableError (ValueError)      a parameter that a command reads and no variable can hold
│   ├── Interrupted                     a step that is not to run again was found interrupted
│   ├── NotebookError                   a cell of a notebook failed
│   ├── KernelDiedError                 the kernel of a notebook ended before its last cell did
│   ├── NotebookReturnError (ValueError) a name in `returns` that a notebook does not give
│   ├── ItemsError (ValueError)         a map's parameter holds nothing that has items
│   ├── BreakError (ValueError)         a loop's parameter does not say whether it is over
│   ├── NoBranchError (ValueError)      a conditional has no branch for its parameter's value
│   ├── UnsendableError (ValueError)    what cannot be pickled to or from the process of a step
│   ├── CatalogError                    a file that cannot be kept, or be given to a step
│   │   └── MissingFilesError           patterns that stand for no file
│   └── ProcessTraceback                the traceback in the process of a step: the cause there
├── ExecutionFailedError                a run that failed; the user's exception is its cause
├── RunCancelledError                   a run that was cancelled
├── UnreadableRunError                  records of a run that are not of their form
├── RunError                            a run that cannot be opened
│   ├── RunExistsError (ValueError)
│   ├── RunNotFoundError (ValueError)
│   ├── RunFinishedError (ValueError)   nothing to resume
│   ├── RunHeldError                    another process holds it
│   ├── GraphChangedError (ValueError)  the pipeline is not the one that the run began with
│   ├── StoredValuesError (ValueError)  stored values do not fit the steps that read them
│   ├── OriginError                     where its pipeline comes from is not known, or not trusted
│   ├── RunStuckError                   ten resumes ended in the same step without a record
│   ├── RunInterruptedError             the owner of a followed run died
│   └── ReaderStalledError              a run that went on without a reader that took nothing
└── StoreError                          the store failed
    ├── LeaseLostError                  another owner has taken the run over
    └── JournalCorruptError             a stored record that is not what was written
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, Protocol

_LISTED: Final = 10
"""Names that a sentence gives before it only counts the rest."""
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # what a terminal obeys, but for line ends and tabs
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of the text
    "\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with escapes in place of what a terminal would obey or nobody would see.

    Line ends and tabs stay.

    Example:
        >>> visible("red \x1b[31m and reversed \u202e")
        'red \\x1b[31m and reversed \\u202e'
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """The names, or the first ten and how many more there are.

    Example:
        >>> listed("abc"), listed(map(str, range(1_000)))
        ('a, b, c', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 990 more')
    """
    known = list(names)
    if len(known) <= _LISTED + 1:
        return separator.join(known)
    return separator.join([*known[:_LISTED], f"and {len(known) - _LISTED:,} more"])


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names, the one most like `name` first, the others in order.

    Example:
        >>> nearest("sqlit", ["buffered", "postgres", "sqlite"])
        ['sqlite', 'buffered', 'postgres']
    """
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return close + [other for other in names if other not in close]


def shortened(text: str, limit: int = 80) -> str:
    """The text as `repr` shows it, cut with a mark past `limit` characters."""
    return repr(text) if len(text) <= limit else f"{text[:limit]!r}… ({len(text):,} characters)"


def message_of(problem: BaseException) -> str:
    """What an exception says, or its type if it says nothing; lone surrogates as escapes.

    Example:
        >>> message_of(ValueError("half a character: \\ud800")), message_of(ValueError())
        ('half a character: \\\\ud800', 'ValueError')
    """
    try:
        text = str(problem)
    except Exception:
        text = ""
    # Not the method of what `__str__` gave, which may be of a class of its own.
    return str.encode(text or type(problem).__name__, "utf-8", "backslashreplace").decode()


def first_line(problem: BaseException, limit: int = 500) -> str:
    """What an exception is, and the first line of what it says, cut with a mark.

    Example:
        >>> first_line(KeyError("x")), first_line(ValueError())
        ("KeyError: 'x'", 'ValueError')
    """
    kind, text = type(problem).__name__, message_of(problem)
    line = next((line for line in text.splitlines() if line.strip()), "")
    if not line or text == kind:
        return kind
    return f"{kind}: {line}" if len(line) <= limit else f"{kind}: {line[:limit]}…"


class RunnableError(Exception):
    """The base of every error that `runnable` raises; it can be pickled and copied.

    What it says can be shown in a terminal, whatever it was made of: its attributes have the names
    and values as they are, its sentence has escapes for control characters.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*[visible(one) if isinstance(one, str) else one for one in args])

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[RunnableError], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """An error as it was: made of its sentence, since its class takes the facts."""
    error = kind.__new__(kind, *args)
    error.args = args  # `OSError`, under one of them, does not take them before `__init__`
    error.__dict__.update(facts)
    return error


class DefinitionError(RunnableError, ValueError):
    """A pipeline cannot be built as it is written; the message names the step and what to do.

    `field` is the field of the step that is wrong, where one is.
    """

    field: str = ""


class PipelineFileError(DefinitionError):
    """A pipeline's YAML cannot be read, or holds what makes no pipeline.

    `file` is empty for text, `line` is 0 where none is known (JSON has none), `step` is the path of
    the step, empty for the pipeline itself.
    """

    def __init__(self, file: str, line: int, step: str, reason: str) -> None:
        self.file = file
        self.line = line
        self.step = step
        self.reason = reason
        where = file or "The YAML text"
        place = f"{where}:{line}" if file and line else f"{where}, line {line}" if line else where
        whose = f", step {step!r}" if step else ""
        super().__init__(f"{place}{whose}: {reason.removesuffix('.')}.")


class UnwritableError(DefinitionError):
    """A pipeline cannot be written as YAML: a step has what no text can name."""

    def __init__(self, step: str, reason: str) -> None:
        self.step = step
        self.reason = reason
        whose = f"Step {step!r}" if step else "The pipeline"
        super().__init__(f"{whose} cannot be written as YAML: {reason.removesuffix('.')}.")


class InvalidNameError(DefinitionError):
    """A step, branch, parameter or run has a name that it may not have."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        self.what = what
        self.name = name
        self.reason = reason
        whose = what if what in ("run id", "tag") else f"{what} name"
        super().__init__(f"The {whose} {shortened(name)} {reason}. Choose another name.")


class GraphError(DefinitionError):
    """Steps do not make a graph: a cycle, an edge to nowhere, two of one name, none at all."""


class _Finding(Protocol):
    @property
    def step(self) -> str: ...
    @property
    def location(self) -> str: ...
    @property
    def message(self) -> str: ...


class CheckError(DefinitionError):
    """Steps cannot work together, whatever the pipeline is given; `findings` has each place."""

    def __init__(self, findings: Sequence[_Finding]) -> None:
        self.findings: tuple[_Finding, ...] = tuple(findings)
        super().__init__(
            "The pipeline cannot work as it is written:\n" + listed(map(str, findings), "\n")
        )


class ReducerError(DefinitionError):
    """A reducer of a `Map` cannot be used, or its text does more than it may.

    `column` is where in the text, counted from 1 over all its lines; 0 for nowhere in it.
    """

    def __init__(self, reducer: str, reason: str, column: int = 0, advice: str = "") -> None:
        self.reducer = reducer
        self.reason = reason
        self.column = column
        self.advice: str = advice or (
            "Give a function, the dotted path of one (package.module.function), the name of a "
            "builtin (as max), or the text of a lambda of one argument."
        )
        place = f" at column {column}" if column else ""
        super().__init__(f"The reducer {shortened(reducer)} {reason}{place}. {self.advice}")


class InputError(RunnableError, ValueError):
    """What a call, a file or the environment gives cannot be used."""


class ParametersFileError(InputError):
    """A parameters file cannot be read, or does not hold a mapping."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"The parameters file {path!r} {reason}.")


class ConfigurationError(InputError):
    """A configuration file cannot be read, or holds something that means nothing."""

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"Configuration {where}: {reason}.")


class PluginError(ConfigurationError):
    """A plug-in is not known by that name, or does not load; `place` is the line that names it."""

    def __init__(self, group: str, name: str, reason: str, place: str = "") -> None:
        self.group = group
        self.name = name
        self.place = place
        super().__init__(f"{place}{', ' if place else ''}{group} {name!r}", reason)

    @classmethod
    def unknown(cls, group: str, name: str, known: Iterable[str]) -> PluginError:
        """The error for a name that is registered nowhere."""
        there = listed(nearest(name, known))
        return cls(group, name, f"is not known (there are: {there or 'none'})")


class TargetError(InputError):
    """What a command is to run gives no pipeline: a YAML file, or `module:attribute`.

    `location` is `file:line` of the place where it went wrong, as far as that is known. What the
    user's module raised is the `__cause__`.
    """

    def __init__(self, target: str, reason: str, advice: str = "", location: str = "") -> None:
        self.target = target
        self.reason = reason
        self.advice = advice
        self.location = location
        place = f" ({location})" if location else ""
        super().__init__(f"{shortened(target)} {reason}{place}.{f' {advice}' if advice else ''}")


class NotebookFileError(InputError):
    """A notebook is not there, is no notebook, or asks for a kernel that cannot run it."""

    def __init__(self, notebook: str, reason: str, advice: str = "") -> None:
        self.notebook = notebook
        self.reason = reason
        super().__init__(f"The notebook {notebook!r} {reason}.{f' {advice}' if advice else ''}")


class TaskDocumentError(InputError):
    """A task document cannot be read, or asks for what there is not."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The task document cannot be carried out: {reason.removesuffix('.')}.")


class MissingParameterError(InputError):
    """A step needs a value that nothing before it provides."""

    def __init__(self, step: str, name: str, known: Collection[str]) -> None:
        self.step = step
        self.name = name
        near = sorted(known) if len(known) <= _LISTED else nearest(name, known)
        there = f"there are: {listed(near)}" if known else "there are none"
        super().__init__(
            f"Step {step!r} needs {name!r}, which no earlier step returns ({there}). Return it "
            f"from an earlier step, give it a default, or pass parameters={{{name!r}: …}}."
        )


class MissingSecretError(InputError):
    """A step names a secret that the secrets service does not have."""

    def __init__(self, name: str, service: str, step: str = "", where: str = "") -> None:
        self.name = name
        self.service = service
        self.step = step
        place = f" ({where})" if where else ""
        who = f"Step {step!r} names" if step else "Something asked for"
        super().__init__(
            f"{who} the secret {name!r}, which the secrets service {service!r}{place} does not "
            f"have. Set it there, or remove the name."
        )

    @classmethod
    def not_named(cls, name: str, step: str) -> MissingSecretError:
        """The error for a secret that a step reads and no step of its pipeline names."""
        error = cls(name, "", step)
        sentence = (
            f"Step {step!r} reads the secret {name!r}, which no step of its pipeline names (or, if "
            f"it has a process of its own, not the step itself). Add it to the step's "
            f"secrets=[{name!r}]."
        )
        error.args = (sentence,)
        return error


class SecretsError(InputError):
    """A secrets service cannot look: a file with a line that means nothing, a locked keyring."""

    def __init__(self, where: str, reason: str, advice: str = "") -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"Secrets in {where}: {reason}.{f' {advice}' if advice else ''}")


class LimitError(InputError):
    """Something is larger than its limit."""

    def __init__(self, what: str, size: int, limit: int, unit: str, advice: str) -> None:
        self.what = what
        self.size = size
        self.limit = limit
        super().__init__(
            f"{what} is {size:,} {unit} long, more than the {limit:,} allowed. {advice}"
        )


class StepError(RunnableError):
    """Something is wrong with one step while it runs."""


class BindingError(StepError, ValueError):
    """A parameter's value does not fit the annotation of the argument that takes it."""

    def __init__(self, argument: str, annotation: str, reason: str) -> None:
        self.argument = argument
        self.annotation = annotation
        self.reason = reason
        super().__init__(
            f"Argument {argument!r} is annotated {annotation}, and the parameter of that name does "
            f"not fit: {reason}. Change the annotation, or what an earlier step returns."
        )


class ReturnsError(StepError, ValueError):
    """What a function gave back does not fit the names in its `returns`."""

    def __init__(self, names: Sequence[str], found: str) -> None:
        self.names: tuple[str, ...] = tuple(names)
        self.found = found
        super().__init__(
            f"returns names {len(names)} ({listed(names)}) and the function gave back {found}. "
            f"Give back a tuple with one value a name, or change returns=[…]."
        )


class UnencodableError(StepError, ValueError):
    """JSON cannot hold a value; `place` is the path to it, as `result['a'][3]`."""

    def __init__(self, place: str, reason: str) -> None:
        self.place = place
        self.reason = reason
        advice = (
            "Annotate what the function returns so that pydantic can encode it, convert it before "
            "returning it, or return it as pickled(…)."
            if place.startswith("result")
            else "Convert it first."
        )
        shown = place if len(place) <= 200 else f"{place[:100]}…{place[-80:]}"
        super().__init__(f"{shown} {reason}, which JSON cannot hold. {advice}")


class PickleError(StepError, ValueError):
    """A value that a step returns as `pickled(…)` cannot be pickled."""

    def __init__(self, kind: str, problem: Exception) -> None:
        self.kind = kind
        self.place: str = "result"
        super().__init__(
            f"{self.place} is of the type {kind!r} and cannot be pickled ({first_line(problem)}). "
            f"Return what it is made of, or make it anew in the step that needs it."
        )


class UnpickleError(StepError, ValueError):
    """A stored object cannot be made again from its bytes."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(
            f"A stored object cannot be made again ({first_line(problem)}). Bring its class back "
            f"to where it was, install its package, or run the step that returned it again."
        )


class UntrustedPickleError(UnpickleError):
    """A stored object is not unpickled, since its keyed digest is missing or does not match.

    Unpickling can run any code, so it is done only with what the holder of the key has written:
    those bytes, under that name, by that step of that run. See `docs/parameters.md`.
    """

    def __init__(self, run_id: str, path: str, name: str, reason: str, advice: str) -> None:
        self.run_id = run_id
        self.path = path
        self.name = name
        step = f"step {path!r}" if path else "no step"
        StepError.__init__(
            self,
            f"The stored object {name!r} of {step} of run {run_id!r} is not unpickled: {reason}. "
            f"{advice}",
        )


class PickleKeyError(StepError, ValueError):
    """The key that vouches for pickled values cannot be used."""

    def __init__(self, where: str, reason: str, advice: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"The key for pickled values, {where}, cannot be used: {reason}. {advice}")


class StreamError(StepError, ValueError):
    """A stream gives something that its rules do not allow, such as a chunk after its end."""


class MetricError(StepError, ValueError):
    """What a task reports as a metric is no number that can be kept."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"The metric {name!r} {reason}.")


class SecretLeakError(StepError, ValueError):
    """A value that would be stored holds a secret."""

    def __init__(self, what: str, secret: str) -> None:
        self.what = what
        self.secret = secret
        super().__init__(
            f"{what} holds the value of the secret {secret!r} and would be stored in the run log. "
            f"Hand on the secret's name, and read it where it is used with "
            f"runnable.current().secret({secret!r})."
        )


class StepTimeoutError(StepError, TimeoutError):
    """An attempt took longer than its step's `timeout`."""

    def __init__(self, step: str, seconds: float) -> None:
        self.step = step
        self.seconds = seconds
        super().__init__(f"Step {step!r} took longer than its timeout of {seconds:g} seconds.")


class ThreadsHeldError(StepError):
    """All worker threads are held by functions whose attempts have ended, and which go on.

    `holders` has, for each thread, the step that holds it. When one of the functions ends, its
    thread is free for the next step.
    """

    def __init__(self, limit: int, holders: Sequence[str]) -> None:
        self.limit = limit
        self.holders: tuple[str, ...] = tuple(holders)
        names = sorted(set(holders))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        super().__init__(
            f"All {limit} worker threads are held by functions that go on although their attempts "
            f"have timed out or were cancelled: step {', step '.join(names[:3])}{more}. Give those "
            f"steps isolation='process', whose process is killed, or have what their functions "
            f"wait for end by itself (a timeout of the client, of the lock)."
        )


class ProcessDiedError(StepError):
    """The process of a step with `isolation="process"` ended before its function did.

    `exit_status` is what it ended with, `signal` the name of what killed it; one of them is None.
    """

    def __init__(self, step: str, returncode: int | None, *, started: bool = True) -> None:
        self.step = step
        self.exit_status: int | None
        self.signal: str | None
        self.exit_status, self.signal, told = _fate(returncode)
        before = "its function returned" if started else "its function was called"
        super().__init__(f"The process of step {step!r} {told}, before {before}.")


def _fate(returncode: int | None) -> tuple[int | None, str | None, str]:
    """The exit status of a process, or the name of what killed it; and the same in words."""
    import signal

    if returncode is None:
        return None, None, "ended, and nobody knows how"
    if returncode >= 0:
        return returncode, None, f"ended with exit status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    because = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return None, name, f"was killed by {name}{because}"


class ShellError(StepError):
    """The command of a `ShellTask` ended with another exit status than 0, or was killed.

    `exit_status` is what it ended with, `signal` the name of what killed it; one of them is None.
    `last_lines` are the last that it wrote to stderr, or to stdout if it wrote nothing there.
    """

    def __init__(self, step: str, returncode: int | None, last_lines: Sequence[str] = ()) -> None:
        self.step = step
        self.exit_status: int | None
        self.signal: str | None
        self.exit_status, self.signal, told = _fate(returncode)
        self.last_lines: tuple[str, ...] = tuple(last_lines)
        text = f"The command of step {step!r} {told}"
        if self.last_lines:
            text += f": {shortened(self.last_lines[-1].strip())[1:-1]}"
            if len(self.last_lines) > 1:
                text += "\n  ".join(["\nThe last that it wrote:", *self.last_lines])
        super().__init__(text if self.last_lines else f"{text}, and wrote nothing.")


class ShellReturnsError(StepError, ValueError):
    """A command has not set a variable of its `returns`, or to what cannot be kept."""

    def __init__(self, step: str, names: Sequence[str], reason: str, advice: str) -> None:
        self.step = step
        self.names: tuple[str, ...] = tuple(names)
        self.reason = reason
        which = "the variable" if len(self.names) == 1 else "the variables"
        super().__init__(
            f"The command of step {step!r} returns {which} {listed(self.names)}, {reason}. {advice}"
        )


class VariableError(StepError, ValueError):
    """A command reads a parameter that no variable of the environment can hold."""

    def __init__(self, step: str, name: str, reason: str) -> None:
        self.step = step
        self.name = name
        self.reason = reason
        super().__init__(
            f"The command of step {step!r} reads ${name}, and the parameter {name!r} cannot be a "
            f"variable of its environment: {reason}. Write it to a file in an earlier step, and "
            f"hand on the file's path."
        )


class Interrupted(StepError):
    """A step with `on_interrupted="fail"` was running when its process died; it is not run again.

    What it has done until then is not known. Once that was looked after, a further resume runs it.
    """

    def __init__(self, step: str) -> None:
        self.step = step
        super().__init__(
            f"Step {step!r} was running when the process of its run died, and its on_interrupted "
            f"is 'fail', so it is not run again. See what it has done; another resume runs it."
        )


class NotebookError(StepError):
    """A cell of a notebook failed; `traceback` is the kernel's, without colours.

    `cell` is its number, counted from 1 over all cells of the notebook (0 for one that is not of
    the notebook: the injected parameters, what hands out the values), `source` its first line.
    `ename` and `evalue` are the type and the text of what it raised.
    """

    def __init__(
        self, notebook: str, cell: int, source: str, ename: str, evalue: str, traceback: str = ""
    ) -> None:
        self.notebook = notebook
        self.cell = cell
        self.source = source
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        what = f"{ename}: {evalue}" if evalue else ename
        super().__init__(f"{_cell_of(notebook, cell, source)} failed: {what.removesuffix('.')}.")


class KernelDiedError(StepError):
    """The kernel of a notebook ended before its last cell did.

    `exit_status` is what it ended with, `signal` the name of what killed it; one of them is None.
    `cell` and `source` say which cell ran, as in `NotebookError`; `words` is the end of what the
    kernel's process wrote past its cells.
    """

    exit_status: int | None
    signal: str | None

    def __init__(
        self, notebook: str, cell: int, source: str, returncode: int | None, words: str = ""
    ) -> None:
        self.notebook = notebook
        self.cell = cell
        self.source = source
        self.words = words
        self.exit_status: int | None
        self.signal: str | None
        self.exit_status, self.signal, told = _fate(returncode)
        where = f"in {_cell_of('', cell, source)}" if cell or source else "outside of its cells"
        said = f" It had written: {words.strip()}" if words.strip() else ""
        super().__init__(f"The kernel of notebook {notebook!r} {told}, {where}.{said}")


def _cell_of(notebook: str, cell: int, source: str) -> str:
    which = f"cell {cell} ({shortened(source)})" if cell else source or "its kernel"
    if notebook:
        return f"In notebook {notebook!r}, {which}"
    return which


class NotebookReturnError(StepError, ValueError):
    """A notebook does not give a name in its step's `returns`, or not as a value that travels."""

    def __init__(self, notebook: str, name: str, reason: str) -> None:
        self.notebook = notebook
        self.name = name
        self.reason = reason
        super().__init__(f"Notebook {notebook!r} returns {name!r}, {reason}.")


class ItemsError(StepError, ValueError):
    """The parameter that a map iterates on holds neither a list, nor a tuple, nor a dict."""

    def __init__(self, step: str, name: str, found: str) -> None:
        self.step = step
        self.name = name
        self.found = found
        super().__init__(
            f"Step {step!r} iterates on {name!r}, which holds one {found}. Return a list, a tuple "
            f"or a dict under that name."
        )


class BreakError(StepError, ValueError):
    """The parameter that ends a loop is not set, or is neither true nor false."""

    def __init__(self, step: str, name: str, reason: str) -> None:
        self.step = step
        self.name = name
        self.reason = reason
        super().__init__(
            f"Step {step!r} goes on until {name!r} is true, and {reason}. Have a step of the "
            f"branch return {name!r} as a bool in every turn."
        )


class NoBranchError(StepError, ValueError):
    """A conditional has neither a branch for its parameter's value nor a default."""

    def __init__(self, step: str, name: str, value: str, branches: Collection[str]) -> None:
        self.step = step
        self.name = name
        self.value = value
        self.branches: tuple[str, ...] = tuple(branches)
        super().__init__(
            f"Step {step!r} has no branch for {name!r} as it is, {shortened(value)} (there are: "
            f"{listed(map(repr, self.branches))}). Add a branch of that name, or a default."
        )


class UnsendableError(StepError, ValueError):
    """Something cannot be pickled, and so cannot reach the process of a step, or come back."""

    def __init__(self, what: str, problem: BaseException) -> None:
        self.what = what
        super().__init__(
            f"{what} cannot be pickled to travel between this process and that of the step "
            f"({first_line(problem)}). Hand on what it is made of instead."
        )


class CatalogError(StepError):
    """A file cannot be kept, or be given to a step, or is not what was kept.

    Args:
        what: The file, the folder or the place where files are kept.
        reason: What is wrong with it, as a verb and what follows.
        advice: What to do, a sentence without its full stop.
    """

    def __init__(self, what: str, reason: str, advice: str) -> None:
        self.what = what
        self.reason = reason
        self.advice = advice
        super().__init__(f"{what} {reason}. {advice}.")


class MissingFilesError(CatalogError):
    """Patterns of a step's catalog stand for no file.

    `stage` is `get` or `put`; `there` has the names of the files that there are.
    """

    def __init__(
        self, stage: str, patterns: Sequence[str], there: Sequence[str], folder: str
    ) -> None:
        self.stage = stage
        self.patterns: tuple[str, ...] = tuple(patterns)
        self.there: tuple[str, ...] = tuple(there)
        self.folder = folder
        one = len(patterns) == 1
        found = listed(map(repr, there)) or "none"
        from_steps = " or was put by an earlier step" if stage == "get" else ""
        reason = (
            f"stand{'s' if one else ''} for no file that lies in {folder!r}{from_steps} (there "
            f"are: {found})"
        )
        advice = (
            f"Write the file in this step, or change Catalog({stage}=[…])"
            if stage == "put"
            else "Put the file in an earlier step, or change Catalog(get=[…])"
        )
        named = listed(map(repr, patterns))
        what = f"The pattern{'' if one else 's'} {named} of Catalog({stage}=[…])"
        super().__init__(what, reason, advice)


class ProcessTraceback(StepError):
    """The traceback of an error in the process of a step, as text: the cause of that error here."""


class ExecutionFailedError(RunnableError):
    """A run failed; the user's own exception is the `__cause__`.

    `run_id` and `path` say where; the run can be resumed once the cause is mended.
    """

    def __init__(self, run_id: str, path: str = "", reason: str = "") -> None:
        self.run_id = run_id
        self.path = path
        self.reason = reason
        step = f"Step {path!r} failed" if path else "The pipeline failed"
        super().__init__(
            f"{step}: {(reason or 'see the run log').removesuffix('.')}. Resume with "
            f"pipeline.execute(resume={run_id!r}), or, for a script, with "
            f"RUNNABLE_RETRY_RUN_ID={run_id} python script.py"
        )


class RunCancelledError(RunnableError):
    """A run was cancelled, by its reader, by `runnable.cancel` or by a signal."""

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id = run_id
        self.reason = reason
        super().__init__(
            f"Run {run_id!r} was cancelled: {reason}. Resume it with execute(resume={run_id!r})."
        )


class RunError(RunnableError):
    """A run cannot be opened, resumed or followed."""


class RunExistsError(RunError, ValueError):
    """A run of that id is in the store already."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"A run {run_id!r} exists already. Choose another run_id, leave it out to get a new "
            f"one, or go on with that run: execute(resume={run_id!r})."
        )


class RunNotFoundError(RunError, ValueError):
    """The store has no run of that id."""

    def __init__(self, run_id: str, store: str) -> None:
        self.run_id = run_id
        self.store = store
        super().__init__(
            f"There is no run {run_id!r} in {store}. Check the id, the folder you started in, and "
            f"the run-log-store of your configuration."
        )


class RunFinishedError(RunError, ValueError):
    """The run ended with success; there is nothing to resume."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"Run {run_id!r} ended with success, so there is nothing to resume. Start a new run."
        )


class RunHeldError(RunError):
    """Another owner, which is alive, holds the run's lease."""

    def __init__(self, run_id: str, owner: str) -> None:
        self.run_id = run_id
        self.owner = owner
        super().__init__(
            f"Run {run_id!r} is held by {owner}, which is alive. Wait for it, cancel the run with "
            f"runnable.cancel({run_id!r}), or end that process, and resume then."
        )


class GraphChangedError(RunError, ValueError):
    """The pipeline is built otherwise than when the run began."""

    def __init__(self, run_id: str, changes: Sequence[str]) -> None:
        self.run_id = run_id
        self.changes: tuple[str, ...] = tuple(changes)
        super().__init__(
            f"The pipeline of run {run_id!r} has changed since it began: {listed(changes, '; ')}. "
            f"Resume with the pipeline it began with, start a new run, or accept the change with "
            f"force=True."
        )


class OriginError(RunError):
    """A run does not tell, in a way that can be trusted, where its pipeline is to be found.

    `refused` says whether it tells and nobody vouches for it; `command` is what to type instead.
    """

    def __init__(self, run_id: str, reason: str, command: str, *, refused: bool = False) -> None:
        self.run_id = run_id
        self.reason = reason
        self.command = command
        self.refused = refused
        super().__init__(f"Run {run_id!r} {reason}. Type: {command}")


class RunStuckError(RunError):
    """Resume after resume ended in the same step without a record of how."""

    def __init__(self, run_id: str, path: str, times: int) -> None:
        self.run_id = run_id
        self.path = path
        self.times = times
        super().__init__(
            f"Run {run_id!r} died {times} times in a row in step {path!r}. Mend the step (does it "
            f"end the process, or use up the memory?), or try once more with force=True."
        )


class StoredValuesError(RunError, ValueError):
    """Values that the journal keeps do not fit the steps that would read them."""

    def __init__(self, run_id: str, misfits: Sequence[str]) -> None:
        self.run_id = run_id
        self.misfits: tuple[str, ...] = tuple(misfits)
        super().__init__(
            f"Run {run_id!r} cannot go on, because stored values do not fit the steps that would "
            f"read them: {listed(misfits, '; ')}. Mend the annotations, start a new run, or let "
            f"those steps fail with force=True."
        )


class RunInterruptedError(RunError):
    """The owner of a followed run died; a resume will go on with it."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"The process that ran {run_id!r} is gone and the run has not ended. Resume it with "
            f"execute(resume={run_id!r})."
        )


class ReaderStalledError(RunError):
    """The run has gone on without a reader that took nothing for too long."""

    def __init__(self, run_id: str, seq: int, seconds: float) -> None:
        self.run_id: str = run_id
        self.seq: int = seq
        self.seconds: float = seconds
        super().__init__(
            f"The reader of run {run_id!r} took nothing for {seconds:g} seconds, and the run went "
            f"on without it. Read the rest with runnable.follow({run_id!r}, after={seq}), or give "
            f"it more time with stall_timeout=."
        )


class StoreError(RunnableError):
    """The store failed, or is not what it should be.

    Args:
        where: The store: a file, a table, a bucket.
        reason: What is wrong.
        advice: What to do.
        temporary: Whether the same call may succeed later (a server that is away, a lock).
        full: Whether there is no space left.
    """

    def __init__(
        self,
        where: str,
        reason: str,
        advice: str = "",
        *,
        temporary: bool = False,
        full: bool = False,
    ) -> None:
        self.where = where
        self.reason = reason
        self.advice = advice
        self.temporary = temporary
        self.full = full
        super().__init__(f"Store {where}: {reason}.{f' {advice}' if advice else ''}")


class LeaseLostError(StoreError):
    """Another owner has taken the run over; nothing more of this one is appended."""

    def __init__(self, run_id: str, epoch: int) -> None:
        self.run_id = run_id
        self.epoch = epoch
        super().__init__(
            f"run {run_id!r}",
            f"another owner has taken the run over from this one (epoch {epoch})",
            "Nothing more was appended here; follow the run to see how it goes on.",
        )


class UnreadableRunError(RunnableError):
    """The records of a run are not of the form that those of a run have."""

    def __init__(self, run_ids: Sequence[str], reason: str) -> None:
        self.run_ids = run_ids
        self.reason = reason
        runs = " or ".join(map(repr, run_ids))
        super().__init__(
            f"Run {runs} holds records that are not of their form ({reason}). "
            f"See which with `runnable doctor RUN_ID`."
        )


class JournalCorruptError(StoreError):
    """A stored record is not what was written."""

    def __init__(self, run_id: str, seq: int, reason: str) -> None:
        self.run_id = run_id
        self.seq = seq
        super().__init__(
            f"run {run_id!r}",
            f"the record at or after seq {seq} is damaged ({reason})",
            "Nothing was repaired; other runs of the store are not touched.",
        )
