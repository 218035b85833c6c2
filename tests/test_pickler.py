"""What a pickler of another author has to be."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic import ValidationError

from runnable.extensions.pickler.pickle import PicklePickler
from runnable.pickler import BasePickler


def test_a_pickler_has_to_say_how_it_writes_and_reads() -> None:
    with pytest.raises(TypeError, match="abstract"):
        cast("Any", BasePickler)()


def test_a_pickler_takes_no_keys_but_its_own() -> None:
    with pytest.raises(ValidationError):
        PicklePickler.model_validate({"protocol": 2})
