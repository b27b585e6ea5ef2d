"""What is known of encoded fields: those ready to decode, and those encoded some time before.

The embeddings themselves are kept by :mod:`napari_pathsam.inference.embedding_cache`, where pixels
and weights decide. Here are only hints, which may be wrong: a field of the book is preferred to a
new one, so that a click where somebody clicked before finds its embedding, in whatever view.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import replacing
from napari_pathsam.workspace.fields import Field

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding

READY_BYTES = 256 * 2**20
"""Memory for embeddings ready to decode; the newest one is kept whatever its size."""
AT_MOST = 64
"""Fields remembered of an image and model."""

logger = logging.getLogger(__name__)

About = tuple[Any, ...]
"""The image's key, the model's name, and the pixel size the image is said to have."""


class Ready:
    """The embeddings decoded last, with what the decoder worked out for them; bounded by bytes."""

    def __init__(self, at_most_bytes: int = READY_BYTES) -> None:
        self._at_most = at_most_bytes
        self._kept: OrderedDict[About, ImageEmbedding] = OrderedDict()

    def get(self, key: About) -> ImageEmbedding | None:
        """The embedding, now the one used last."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: About, embedding: ImageEmbedding) -> None:
        """Keep it, and let go of the oldest ones."""
        self._kept[key] = embedding
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self.nbytes > self._at_most:
            self._kept.popitem(last=False)

    def fields(self, about: About) -> list[Field]:
        """The fields kept for one image and model, newest first."""
        return [key[-1] for key in reversed(self._kept) if key[:-1] == about]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(embedding.nbytes for embedding in self._kept.values())

    def clear(self) -> None:
        """Let go of all."""
        self._kept.clear()


class FieldBook:
    """Which fields of an image were encoded before, also in earlier sessions.

    Parameters
    ----------
    folder
        Where it is kept, one small file an image and model; None: in memory only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._known: dict[About, list[Field]] = {}
        self._lock = threading.Lock()

    def fields(self, about: About) -> list[Field]:
        """Newest first."""
        with self._lock:
            if about not in self._known:
                self._known[about] = self._read(about)
            return list(self._known[about])

    def add(self, about: About, field: Field) -> None:
        """A field was encoded; a folder that cannot be written to costs the note, not the work."""
        known = self.fields(about)
        if known[:1] == [field]:
            return
        with self._lock:
            path = self._path(about)
            # Another viewer may have written meanwhile.
            others = [] if path is None else self._read(about)
            known = [field, *(f for f in (*known, *others) if f != field)]
            self._known[about] = known = list(dict.fromkeys(known))[:AT_MOST]
            if path is None:
                return
            rows = [[f.region.y, f.region.x, *f.region.shape_yx, *f.shape_yx] for f in known]
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as beside:
                    beside.write_text(json.dumps(rows), "utf-8")
            except (OSError, BadFileError) as error:
                logger.debug("%s was not kept: %s", path, error)

    def _path(self, about: About) -> Path | None:
        if self._folder is None:
            return None
        name = hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()
        return self._folder / f"{name}.json"

    def _read(self, about: About) -> list[Field]:
        path = self._path(about)
        if path is None:
            return []
        try:
            rows = json.loads(path.read_text("utf-8"))
            return [Field(Region(y, x, h, w), (sh, sw)) for y, x, h, w, sh, sw in rows][:AT_MOST]
        except (OSError, ValueError, TypeError):
            return []
