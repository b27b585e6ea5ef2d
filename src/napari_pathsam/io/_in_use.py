"""Folders in use: who needs one keeps a locked file beside it, whichever process it is in."""

from __future__ import annotations

import glob
import secrets
import weakref
from pathlib import Path
from typing import IO
from weakref import WeakSet

from napari_pathsam.io._files import locked

_here: WeakSet[InUse] = WeakSet()


class InUse:
    """Keeps a folder in use until it is let go, or this dies.

    Raises OSError where no file can be beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sign = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.lock")
        self.let_go = weakref.finalize(self, _let_go, locked(sign), sign)
        _here.add(self)  # a drive may know no locks


def in_use(folder: Path) -> bool:
    """Whether anybody uses a folder; what killed ones left beside it is removed."""
    if any(here.folder == folder and here.let_go.alive for here in _here):
        return True
    for sign in folder.parent.glob(f".{glob.escape(folder.name)}.*.lock"):
        lock = locked(sign)
        if lock is None:
            return True
        _let_go(lock, sign)
    return False


def _let_go(lock: IO[bytes] | None, sign: Path) -> None:
    if lock is not None:
        lock.close()
    sign.unlink(missing_ok=True)
