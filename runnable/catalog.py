"""The catalog service: the base class of one, and the one that keeps nothing."""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class BaseCatalog(ABC, BaseModel):
    """Where the files of a run are kept.

    Its fields are the keys that it takes in a configuration file; it is registered as an entry
    point in the group `catalog`. `compute_data_folder` is where the files lie that steps get and
    put.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", defer_build=True)

    service_name: ClassVar[str]
    compute_data_folder: Path = Path(".")


class DoNothingCatalog(BaseCatalog):
    """Keeps no files.

    Example:
        >>> str(DoNothingCatalog().compute_data_folder)
        '.'
    """

    service_name: ClassVar[str] = "do-nothing"
