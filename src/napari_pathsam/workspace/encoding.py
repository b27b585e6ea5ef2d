"""Encoding a field of the open image, in the worker, through the cache that all docks share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pathsam.inference.context import surroundings_for
from napari_pathsam.workspace.field_book import About, FieldBook
from napari_pathsam.workspace.fields import Field, ImageSource

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.wsi_sam_fields import Read


Cache = Callable[[], "EmbeddingCache | None"]


def nowhere() -> None:
    """No cache."""


@dataclass(frozen=True)
class Keeping:
    """Where embeddings come from and go.

    Attributes
    ----------
    cache
        Called in the worker for what all who encode share; None: embeddings are not kept.
    book
        Which fields were encoded before.
    """

    cache: Cache = nowhere
    book: FieldBook = dataclass_field(default_factory=FieldBook)


def encode(
    model: Any, source: ImageSource, key: About, keeping: Keeping
) -> tuple[ImageEmbedding, bool]:
    """The embedding of a field, and whether it had to be made.

    ``key`` is what the book knows the image by, and the field.
    """
    *about, seen = key
    shape_yx, mpp = source.shape_yx, about[-1]
    found = field_embedding(model, source.read, shape_yx, seen, mpp, keeping.cache)
    keeping.book.add(tuple(about), seen)
    return found


def encode_ahead(model: Any, source: ImageSource, key: About, keeping: Keeping) -> None:
    """The same for later: only the cache keeps it."""
    encode(model, source, key, keeping)


def field_embedding(
    model: Any,
    read: Read,
    image_yx: tuple[int, int],
    field: Field,
    mpp: float | None,
    cache: Cache,
) -> tuple[ImageEmbedding, bool]:
    """The embedding of a field of an image, and whether it had to be made.

    ``read`` gives the image's pixels, ``mpp`` is that of level 0. What is round the field is read
    too where the model looks at it. A model without weights has nothing that its embeddings could
    be known by; it is asked each time.
    """
    pixels = np.asarray(read(field.region, field.shape_yx))
    around = surroundings_for(model, read, image_yx, field.region, field.shape_yx)
    at_mpp = mpp and mpp / field.scale
    if not hasattr(model, "state_dict"):
        return model.encode(pixels, mpp=at_mpp), True
    from napari_pathsam.inference.embedding_cache import embedding_of

    return embedding_of(model, pixels, mpp=at_mpp, cache=cache(), surroundings=around)
