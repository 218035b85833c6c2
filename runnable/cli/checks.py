"""`runnable check`: what can be said of a pipeline before anything runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runnable.cli.execute import Target
from runnable.cli.exit_status import FAILED
from runnable.cli.output import Json, write_json, write_text

if TYPE_CHECKING:
    from runnable.findings import Finding, Report


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("check")(check)


def check(
    target: Target,
    github: Annotated[
        bool, typer.Option("--github", help="Write annotations for a workflow of GitHub.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if there are warnings, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a pipeline or a job, and whether what its steps need is there; nothing is run.

    Example: runnable check shop.orders:pipeline --strict
    """
    if github and as_json:
        raise typer.BadParameter("--github and --json write the same otherwise: choose one.")
    report = _report(target)
    findings = (*report.errors, *report.warnings, *report.notes)
    if as_json:
        shown = [_as_json(finding) for finding in findings]
        write_json({"target": target, "ok": report.ok, "findings": shown})
    elif github:
        for finding in findings:
            write_text(_annotation(finding))
    else:
        write_text(str(report))
    if not report.ok or (strict and report.warnings):
        raise typer.Exit(FAILED)


def _report(target: str) -> Report:
    """What there is to say; a definition that cannot be built is an error like others."""
    from runnable.cli.target import load
    from runnable.exceptions import CheckError, PipelineFileError, TargetError
    from runnable.findings import Finding, Report

    try:
        return load(target).executable.check()
    except PipelineFileError as error:
        place = f"{error.file}:{error.line or 1}"
        return Report((Finding(error.step, place, f"{error.reason.removesuffix('.')}."),))
    except TargetError as error:
        cause = error.__cause__
        if isinstance(cause, CheckError):
            found = [Finding(one.step, one.location, one.message) for one in cause.findings]
            return Report(tuple(found))
        advice = f" {error.advice}" if error.advice else ""
        message = f"{error.target} {error.reason}.{advice}"
        return Report((Finding("", error.location, message),))


def _as_json(finding: Finding) -> dict[str, Any]:
    file, line = _place(finding)
    return {**finding._asdict(), "file": file, "line": line}


def _place(finding: Finding) -> tuple[str | None, int | None]:
    """The file, as seen from the current folder, and the line; None for what is not known."""
    file, _, line = finding.location.rpartition(":")
    if not file or not line.isdecimal():
        return finding.location or None, None
    inside = os.path.relpath(file)
    return file if inside.startswith(os.pardir) else inside, int(line)


def _annotation(finding: Finding) -> str:
    """A workflow command of GitHub, which annotates the line."""
    file, line = _place(finding)
    title = f"step {finding.step!r}" if finding.step else None
    facts = {"file": file, "line": line, "title": title}
    given = ",".join(
        f"{name}={_escaped(str(value)).replace(':', '%3A').replace(',', '%2C')}"
        for name, value in facts.items()
        if value is not None
    )
    command = {"note": "notice"}.get(finding.severity, finding.severity)
    return f"::{command} {given}::{_escaped(finding.message)}"


def _escaped(text: str) -> str:
    """Text in a workflow command, which ends with its line."""
    from runnable.exceptions import visible

    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return visible(escaped)
