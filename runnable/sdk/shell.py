"""The step that runs a command of a shell."""

from __future__ import annotations

from runnable.sdk.fields import ShellFields
from runnable.sdk.tasks import TaskStep


class ShellTask(ShellFields, TaskStep):
    """A step that runs a command line, or a script, with `/bin/sh`.

    Its parameters are variables of the command's environment, and what it returns are variables
    that the command sets: JSON where it parses, else text.

    Example:
        >>> from runnable import Pipeline
        >>> count = ShellTask(name="count", command="n=$(echo $words | wc -w)", returns=["n"])
        >>> Pipeline(steps=[count]).execute({"words": "one two three"}).parameters["n"]
        3
    """
