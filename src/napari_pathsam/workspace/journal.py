"""Journal: what was done to one image, one line an action, so that a killed process loses none.

A journal is a text file in the user's data folder. Each line is a CRC-32 in hexadecimal, a space,
and JSON; the first says whose journal it is, the others what was done, in order. A line is
written and flushed before the action is shown, and synced soon after. The last line may be torn:
it is left out.
A second process on the same image writes to a file of its own.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import locked
from napari_pathsam.workspace.syncing import Syncer

FORMAT = "napari-pathsam journal"
VERSION = 1
SLOTS = 8
"""Processes that can work on one image at a time and still keep a journal."""

COMPACT_BYTES = 8 * 2**20
"""A journal that is larger, and less than half of it a snapshot, is rewritten as one when it is
opened or closed."""
_BASE = b'{"what":"base"'


@dataclass(frozen=True)
class SavedWork:
    """What a journal found on opening an image can bring back."""

    n_actions: int
    n_objects: int
    saved_at: datetime

    def __str__(self) -> str:
        things = "1 object" if self.n_objects == 1 else f"{self.n_objects} objects"
        return f"{things}, last saved {self.saved_at:%d %B %Y %H:%M}"


class Journal:
    """One journal file, locked while it is open.

    Opening takes the file of this image that was saved last and that no other process holds, else
    an empty one. Nothing is written before the first action.

    Attributes
    ----------
    saved
        What the file held when it was opened; None: nothing.
    shared
        Whether another process has this image's first journal.
    trouble
        A paragraph on a file that could not be read and was set aside, or None.
    """

    def __init__(self, directory: Path, key: str, *, fresh: bool = False) -> None:
        self._key = key
        self._file: IO[bytes] | None = None
        self._syncer: Syncer | None = None
        self.saved: SavedWork | None = None
        self.trouble: str | None = None
        directory.mkdir(parents=True, exist_ok=True)
        stem = sha256(key.encode()).hexdigest()[:24]
        self.path, self._lock, self.shared = _take(directory, stem, fresh=fresh)
        self._good_bytes = self._snapshot_bytes = 0
        if self.path.exists():
            self._look()

    # --- reading --------------------------------------------------------------------------------

    def _look(self) -> None:
        """Check all lines and find out what there is."""
        last: bytes = b""
        n = 0
        try:
            for n, (line, end) in enumerate(_good_lines(self.path)):
                if n == 0:
                    _check_header(line, self._key)
                last, self._good_bytes = line, end
                if line.startswith(_BASE):
                    self._snapshot_bytes = end
            if self._good_bytes == 0 and self.path.stat().st_size:
                raise BadFileError("its first line is not that of a journal")
            damaged = _is_damaged_after(self.path, self._good_bytes)
        except (BadFileError, OSError) as error:
            kept = self._set_aside("damaged")
            self.trouble = (
                f"The saved work of this image cannot be read: {error}. It was kept as {kept}; "
                "work starts afresh."
            )
            return
        if damaged:
            kept = self._copy("damaged")
            self.trouble = (
                f"The saved work of this image is damaged after its action {n}; the "
                f"whole was kept as {kept}. What comes before the damage can be restored."
            )
        if n:
            entry = json.loads(last)
            self.saved = SavedWork(n, int(entry["objects"]), datetime.fromisoformat(entry["at"]))

    def header(self) -> dict[str, Any]:
        """The first line: which labels the actions are about."""
        line, _ = next(_good_lines(self.path))
        header: dict[str, Any] = json.loads(line)
        return header

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """``(what, step)`` of each action, in order; what: base, did, undid or redid."""
        for n, (line, _) in enumerate(_good_lines(self.path)):
            if n:
                entry = json.loads(line)
                try:
                    yield entry["what"], entry["step"]
                except (KeyError, TypeError) as error:
                    raise BadFileError(f"Action {n} of the saved work is damaged.") from error

    # --- writing --------------------------------------------------------------------------------

    def append(
        self, what: str, step: dict[str, Any], n_objects: int, header: dict[str, Any]
    ) -> None:
        """Write an action; a killed process keeps it. OSError when it cannot be written."""
        if self._file is None or self._syncer is None:
            self._file, self._syncer = self._begin(header), Syncer()
        self._file.write(_line(_entry(what, step, n_objects)))
        self._file.flush()
        self._syncer.sync(self._file)

    def _begin(self, header: dict[str, Any]) -> IO[bytes]:
        """Open for appending, behind the last good line."""
        file = self.path.open("r+b" if self._good_bytes else "wb")
        if self._good_bytes:
            file.truncate(self._good_bytes)
            file.seek(self._good_bytes)
        else:
            file.write(_line({**_own_header(self._key), **header}))
        return file

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_snapshot(self) -> bool:
        """Whether half of it or more is what an earlier :meth:`compact` wrote."""
        return 0 < self.size <= 2 * self._snapshot_bytes

    @property
    def is_long(self) -> bool:
        """Whether rewriting it as what came of it makes it smaller."""
        return self.size > COMPACT_BYTES and not self.is_snapshot

    def compact(
        self,
        steps: Iterable[dict[str, Any]],
        n_objects: int,
        header: dict[str, Any],
        *,
        placing: AbstractContextManager[None] | None = None,
    ) -> None:
        """Replace all actions by these, in a new file that takes the old one's place at once.

        What ``steps`` raises leaves the old one as it is, and so does what entering ``placing``
        does: in it the new one is put in place.
        """
        self._let_go()
        self._good_bytes = self.size
        new = self.path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(_line({**_own_header(self._key), **header}))
                for step in steps:
                    file.write(_line(_entry("base", step, n_objects)))
                file.flush()
                os.fsync(file.fileno())
            with placing or nullcontext():
                new.replace(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        self._good_bytes = self._snapshot_bytes = self.size

    def set_aside(self) -> None:
        """Keep what is there under another name, and start afresh."""
        self._let_go()
        if self.path.exists():
            self._set_aside("discarded")
        self.saved = None

    def close(self) -> None:
        """Let another process have it."""
        self._let_go()
        self._lock.close()

    def _let_go(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk once more: what is there is all there will be
                self._file.close()
            self._file = None
        if self._syncer is not None:
            self._syncer.close()
            self._syncer = None

    def _aside(self, why: str) -> Path:
        stamp = f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        return self.path.with_name(f"{self.path.stem}.{why}-{stamp}{self.path.suffix}")

    def _set_aside(self, why: str) -> Path:
        kept = self._aside(why)
        self.path.replace(kept)
        self._good_bytes = 0
        return kept

    def _copy(self, why: str) -> Path:
        kept = self._aside(why)
        kept.write_bytes(self.path.read_bytes())
        return kept


def _own_header(key: str) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "key": key}


def _entry(what: str, step: dict[str, Any], n_objects: int) -> dict[str, Any]:
    at = datetime.now().isoformat(timespec="seconds")
    return {"what": what, "objects": n_objects, "at": at, "step": step}


def _line(value: dict[str, Any]) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _good_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """``(json, end)`` of each line up to the first that is torn or damaged."""
    with path.open("rb") as file:
        for line in file:
            text = line[9:-1]
            if not line.endswith(b"\n") or line[:9] != b"%08x " % zlib.crc32(text):
                return
            yield text, file.tell()


def _is_damaged_after(path: Path, good_bytes: int) -> bool:
    """Whether more follows the last good line than one torn line."""
    with path.open("rb") as file:
        file.seek(good_bytes)
        first = file.readline()
        return first.endswith(b"\n") or bool(file.read(1))


def _check_header(line: bytes, key: str) -> None:
    try:
        header = json.loads(line)
        found = (header["format"], header["key"])
        version = int(header["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError("its first line is not that of a journal") from error
    if found != (FORMAT, key):
        raise BadFileError("it belongs to another image or program")
    if version > VERSION:
        raise BadFileError(
            f"it was written by a newer napari-pathsam (format {version}, this one knows "
            f"{VERSION}); update to restore it"
        )


# --- one process a file ---------------------------------------------------------------------------


def _take(directory: Path, stem: str, *, fresh: bool) -> tuple[Path, IO[bytes], bool]:
    """The free file that was saved last, else a free new one; its lock; if others work.

    ``fresh`` asks for a new one.
    """
    paths = [directory / f"{stem}-{slot}.jsonl" for slot in range(1, SLOTS + 1)]
    full = [path for path in paths if _has_content(path)]
    full.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    new = [path for path in paths if path not in full]
    busy = False
    for path in new if fresh else full + new:
        lock = locked(path.with_suffix(".lock"))
        if lock is not None:
            return path, lock, busy
        busy = True
    raise BlockingIOError(f"{SLOTS} journals of this image are in use")


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
