"""Constants: the words for a status, and every limit with its unit."""

from typing import Final, Literal

Status = Literal["running", "success", "fail", "cancelled", "interrupted"]

RUNNING: Final = "running"
SUCCESS: Final = "success"
FAIL: Final = "fail"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"

LOGGER_NAME: Final = "runnable"
CONFIGURATION_FILE: Final = "runnable-config.yaml"
PROJECT_FILE: Final = "pyproject.toml"
STORE_FOLDER: Final = ".runnable"

ON_FAILURE: Final = "on_failure"
"""The branch name, and so the path segment, of what runs when a step fails."""

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_VALUE_BYTES: Final = 64 * MIB
"""The largest JSON value of a parameter, encoded."""
MAX_CHUNK_BYTES: Final = MIB
MAX_PREVIEW_BYTES: Final = 4 * KIB
MAX_BLOB_INLINE_BYTES: Final = 256 * KIB
"""A value over this goes to the run's blobs, and the record names it by digest."""
MAX_OUTPUT_BYTES: Final = 10 * MIB
"""Captured output of one task; what comes after is cut with a mark."""
MAX_ERROR_BYTES: Final = 64 * KIB
MAX_YAML_BYTES: Final = MIB
SPILL_BYTES: Final = 8 * MIB
"""The value of a stream over this is gathered in a temporary file."""

MAX_RUN_ID: Final = 128
MAX_NAME: Final = 200
MAX_PATH_DEPTH: Final = 32
MAX_PARAMETERS: Final = 1_000
MAX_MAP_ITEMS: Final = 1_000_000
MAX_JSON_DEPTH: Final = 100
MAX_RESUMES_IN_PLACE: Final = 10
"""Resumes that ended in the same step without a record before one more needs `force`."""

FLUSH_SECONDS: Final = 0.002
"""How long a chunk or a log line may wait for company before it is committed."""
FLUSH_BYTES: Final = 64 * KIB
LEASE_SECONDS: Final = 30.0
STORE_PATIENCE_SECONDS: Final = 30.0
STALL_SECONDS: Final = 30.0
"""How long a reader that can come again may take nothing before it is let go."""
GRACE_SECONDS: Final = 10.0
"""How long a retry, or the release of the lease, waits for a thread that cannot be stopped."""
