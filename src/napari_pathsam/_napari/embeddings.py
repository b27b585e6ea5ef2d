"""The embedding cache all docks share: a field that one of them encoded, none encodes again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_pathsam._napari.torch_import import load_torch

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache

_made: list[EmbeddingCache] = []
_lock = threading.Lock()


def shared_cache() -> EmbeddingCache:
    """The cache of this process; imports torch, so it is called in a worker."""
    with _lock:
        if not _made:
            load_torch()
            from napari_pathsam.inference.embedding_cache import EmbeddingCache

            _made.append(EmbeddingCache())
        return _made[0]
