"""What a check has found: a finding about one step, and the report of all."""

from __future__ import annotations

from typing import NamedTuple

from runnable.exceptions import CheckError, visible


class Finding(NamedTuple):
    """One thing about one step.

    Args:
        step: The path of the step; empty for the pipeline itself.
        location: `file:line` of its function; empty if that is not known.
        message: One sentence, which says what to do.
        severity: `error`, `warning` or `note`.
    """

    step: str
    location: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        step = f"step {self.step!r}: " if self.step else ""
        return visible(f"{place}{self.severity}: {step}{self.message}")


class Report(NamedTuple):
    """What `check` found; it is true if there are no errors.

    Args:
        errors: What cannot work, whatever the pipeline is given.
        warnings: What may not work, or is there for nothing.
        notes: What must come with the call.

    Example:
        >>> print(Report((), (Finding("fetch", "a.py:3", "…", "warning"),), ()))
        a.py:3: warning: step 'fetch': …
    """

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        found = (*self.errors, *self.warnings, *self.notes)
        return "\n".join(map(str, found)) or "Nothing to report."

    def raise_errors(self) -> None:
        """Raise if there are errors.

        Raises:
            CheckError: With all of them.
        """
        if self.errors:
            raise CheckError(self.errors)
