"""The runs whose files this process has open: the most recent ones, and none after a fork."""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from typing import Final
from weakref import WeakSet

from runnable.extensions.run_log_store.file_system_journal import OpenRun
from runnable.extensions.run_log_store.file_system_root import Root

LEAST_RUNS: Final = 16
MOST_RUNS: Final = 1_024

_Key = tuple[tuple[str, int, int], str, bool]


class OpenRuns:
    """The runs whose files are open, at most a quarter as many as this process may have files.

    A run has one file open, and a second if it has chunks. One that is closed is opened again at
    its next append: that costs about as much as the append.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: OrderedDict[_Key, OpenRun] = OrderedDict()
        self._all: WeakSet[OpenRun] = WeakSet()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = min(MOST_RUNS, max(LEAST_RUNS, files // 4))

    def get(self, root: Root, run_id: str, *, sync: bool) -> OpenRun:
        """The files of a run, which need not exist.

        Raises:
            RunNotFoundError: If no run may have that id.
        """
        key = (root.key, run_id, sync)
        with self._lock:
            run = self._recent.get(key)
            if run is not None:
                self._recent.move_to_end(key)
                return run
            run = self._recent[key] = OpenRun(root, run_id, sync=sync)
            self._all.add(run)
            idle = self._recent.popitem(last=False)[1] if len(self._recent) > self.most else None
        if idle is not None:
            idle.close()  # else whoever uses it is the last to have it, and closes it
        return run

    def close(self, root: Root, run_id: str) -> None:
        """Close the files of a run that has ended."""
        with self._lock:
            runs = [self._recent.pop((root.key, run_id, sync), None) for sync in (False, True)]
        for run in runs:
            if run is not None:
                run.close()

    def after_fork_in_child(self) -> None:
        """Close what the parent has open, and begin anew."""
        self._lock = threading.Lock()
        self._recent.clear()
        for run in list(self._all):
            run.forget()


OPEN_RUNS: Final = OpenRuns()
"""Those of this process."""

os.register_at_fork(after_in_child=OPEN_RUNS.after_fork_in_child)
