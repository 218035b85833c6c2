"""What was measured has to have done what it should; needs the standard library alone."""

from __future__ import annotations


class WrongResultError(Exception):
    """What was measured did not do what it should, so that its time means nothing."""

    def __init__(self, what: str, found: object, expected: object) -> None:
        self.what, self.found, self.expected = what, found, expected
        super().__init__(f"{what}: {found!r}, where {expected!r} was expected.")


def expect(what: str, found: object, expected: object) -> None:
    """See that a run did what it should.

    Raises:
        WrongResultError: If it did not.
    """
    if found != expected:
        raise WrongResultError(what, found, expected)
