"""Test-time augmentation: a tile is looked at turned and mirrored, and the answers are averaged.

A network that reads pixels turns them itself (``TaskModel``).
The features of an image encoder do not turn with the image, so each view of a tile is encoded; each
is an embedding of its own, and the first one is what clicks and other models share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.inference.embedding_cache import embedding_of
from napari_pathsam.models.task_model import VIEWS, TaskModel

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.models.class_model import ClassModel


def encoded_views(model: ClassModel, views: int | None) -> int:
    """How often a tile is encoded for so many views; None: the model's own."""
    return 1 if isinstance(model, TaskModel) else views or 1


def refuse_views(model: ClassModel, views: int | None) -> None:
    """See that views can be averaged.

    Raises
    ------
    UnavailableError
        The model finds objects one by one, and those of several views are not the same ones.
    """
    if (views or 1) > 1 and getattr(model, "finds_objects", False):
        raise UnavailableError(
            f"{model.name} finds objects one by one, and those of several views cannot be "
            "averaged. Look at one view only (without --views)."
        )


def logits_of(
    model: ClassModel,
    pixels: NDArray[np.uint8],
    cells_yx: tuple[int, int],
    *,
    views: int | None = None,
    cache: EmbeddingCache | None = None,
) -> tuple[Tensor, bool]:
    """What a model says of a tile, on so many cells.

    Parameters
    ----------
    model
        Knows classes.
    pixels
        ``(H, W, 3)`` uint8 at the model's pixel size.
    cells_yx
        Rows and columns that are wanted.
    views
        1, 2, 4 or 8; None: as many as the model says itself.
    cache
        Embeddings of other runs.

    Returns
    -------
    Class logits ``(K + 1, *cells_yx)``, and whether anything had to be encoded.
    """
    fresh = []

    def decoded(seen: Sequence[NDArray[np.uint8]]) -> Tensor:
        embedding, encoded = embedding_of(model, seen[0], mpp=model.config.mpp, cache=cache)
        fresh.append(encoded)
        if isinstance(model, TaskModel):
            return model.decode_classes(embedding, views=views).logits[None]
        return model.decode_classes(embedding).logits[None]

    found = averaged([pixels], cells_yx, encoded_views(model, views), decoded)
    return found[0], any(fresh)


def averaged(
    pixels: Sequence[NDArray[np.uint8]],
    cells_yx: tuple[int, int],
    views: int,
    answer: Callable[[Sequence[NDArray[np.uint8]]], Tensor],
) -> Tensor:
    """``(B, K, *cells_yx)``, the mean answer to images ``(H, W, 3)`` of one size over their views.

    ``answer`` gives ``(B, K, h, w)`` to turned and mirrored images.
    """
    total = None
    for turn, mirrored in VIEWS[views]:
        found = answer([_seen(image, turn, mirrored=mirrored) for image in pixels])
        size = cells_yx[::-1] if turn % 2 else cells_yx
        if found.shape[-2:] != size:
            found = functional.interpolate(found, size, mode="bilinear")
        back = torch.rot90(found, -turn, (-2, -1))
        back = back.flip(-1) if mirrored else back
        total = back if total is None else total + back
    assert total is not None
    return total / views


def _seen(image: NDArray[np.uint8], turn: int, *, mirrored: bool) -> NDArray[np.uint8]:
    turned = np.rot90(image[:, ::-1] if mirrored else image, turn)
    return np.ascontiguousarray(turned)
