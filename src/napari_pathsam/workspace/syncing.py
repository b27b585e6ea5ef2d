"""Syncer: brings a file to the disk from another thread, for a disk may take its time.

What was flushed survives the end of the process; the disk matters when the power goes.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO


class Syncer:
    """Syncs one file, again and again; nobody waits for it but :meth:`close`."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pathsam-sync")
        self._last: Future[None] | None = None

    def sync(self, file: IO[bytes]) -> None:
        """Sync what was flushed, soon; raises the OSError that the last time ended with."""
        last = self._last
        if last is not None and last.done():
            last.result()
        elif last is not None and not last.running():
            return  # one is waiting to begin: it takes this along
        self._last = self._pool.submit(_sync, os.dup(file.fileno()))

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown()


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
