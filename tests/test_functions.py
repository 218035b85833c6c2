"""A function by its path, and the digest of its code."""

from __future__ import annotations

import os
import subprocess
import sys

from runnable.functions import digest_of, imported

DIGESTS = """
from runnable.functions import digest_of
def by_names(x): return x in {"ant", "bee", "cat", "dog", "elk", "fox"}
print(digest_of(by_names))
"""


def digest_under(hash_seed: int) -> str:
    """What a process with that seed of its hashes makes of a function with a set of names."""
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_the_digest_is_the_same_in_another_process():
    assert len({digest_under(seed) for seed in (1, 2, 3)}) == 1


def test_what_has_no_code_has_no_digest():
    assert digest_of(len) == ""


def test_a_dotted_path_gives_its_function():
    assert imported("os.path.join") is os.path.join
