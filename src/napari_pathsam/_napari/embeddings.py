"""The embedding cache all docks share: a field that one of them encoded, none encodes again.

What does not fit into memory, and what was encoded in earlier sessions, lies in the user's cache
folder, up to ``NAPARI_PATHSAM_EMBEDDINGS_GB`` gigabytes; 0 keeps it off the disk.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from napari_pathsam._napari.torch_import import load_torch
from napari_pathsam.io.places import cache_folder
from napari_pathsam.workspace.encoding import Keeping
from napari_pathsam.workspace.field_book import FieldBook

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache

DISK_GB = 5.0

logger = logging.getLogger(__name__)
_made: list[EmbeddingCache] = []
_books: list[FieldBook] = []
_lock = threading.Lock()


def shared_cache() -> EmbeddingCache:
    """The cache of this process; imports torch, so it is called in a worker."""
    with _lock:
        if not _made:
            load_torch()
            from napari_pathsam.inference.embedding_cache import EmbeddingCache

            _made.append(EmbeddingCache(disk=_folder(), disk_bytes=int(_gigabytes() * 1e9)))
        return _made[0]


def shared_keeping() -> Keeping:
    """The same for a workspace, with a book of the fields there are."""
    with _lock:
        if not _books:
            folder = _folder()
            _books.append(FieldBook(None if folder is None else folder / "fields"))
        return Keeping(shared_cache, _books[0])


def _folder() -> Path | None:
    return cache_folder() / "embeddings" if _gigabytes() > 0 else None


def _gigabytes() -> float:
    """How much of the disk may be taken."""
    said = os.environ.get("NAPARI_PATHSAM_EMBEDDINGS_GB", "")
    try:
        return max(float(said or DISK_GB), 0.0)
    except ValueError:
        logger.warning("NAPARI_PATHSAM_EMBEDDINGS_GB=%s is no number; %g it is", said, DISK_GB)
        return DISK_GB
