"""What is done with an embedding besides classes, in a worker: similar objects, its components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.encoding import field_embedding
from napari_pathsam.workspace.fields import Field, ImageSource, MaskPrompt, choose_field
from napari_pathsam.workspace.prompting import DEFAULT_MODEL

if TYPE_CHECKING:
    from napari_pathsam.inference.embedding_cache import EmbeddingCache
    from napari_pathsam.models.embedding import ImageEmbedding

LARGEST_PX = 8192**2
"""Level-0 pixels of a field in which single objects are looked for."""


@dataclass(frozen=True)
class Look:
    """Where to look, with what; ``mpp`` None: pixels are taken as they are."""

    source: ImageSource
    region: Region
    model: str
    device: str
    mpp: float | None
    load: Callable[[str, str], Any]
    cache: Callable[[], EmbeddingCache | None]


@dataclass(frozen=True)
class Proposals:
    """Objects nobody accepted yet: ids ``(h, w)`` over a level-0 region, a score of each.

    ``said`` is what a person should know of how they were found; empty: nothing.
    """

    region: Region
    labels: NDArray[np.int32]
    scores: Mapping[int, float]
    said: str = ""


@dataclass(frozen=True)
class Components:
    """Colours ``(h, w, 3)`` uint8 over a level-0 region; ``said`` as of :class:`Proposals`."""

    region: Region
    rgb: NDArray[np.uint8]
    said: str = ""


def similar_objects(look: Look, examples: Sequence[MaskPrompt]) -> Proposals:
    """What looks like the examples in a field round them; BadPromptError when none lies in it."""
    from napari_pathsam.inference.similar import find_similar

    model, said = _promptable(look)
    field, embedding = _encoded(model, look)
    masks = [mask for mask in (example.seen_in(field) for example in examples) if mask.any()]
    if not masks:
        raise BadPromptError(
            "None of the examples lies in the field that is searched. Move the view so that at "
            "least one of them is in it, or zoom in on one, and search again."
        )
    labels = np.zeros(field.shape_yx, np.int32)
    found = find_similar(model, embedding, masks)
    for i, candidate in reversed(list(enumerate(found, start=1))):  # the likeliest on top
        labels[candidate.region.slices][candidate.mask] = i
    labels[np.any(masks, axis=0)] = 0
    scores = {i: c.score for i, c in enumerate(found, start=1) if (labels == i).any()}
    return Proposals(field.region, _at_level_0(labels, field.region.shape_yx), scores, said)


def principal_components(look: Look) -> Components:
    """The embedding of a field as colours."""
    from napari_pathsam.inference import similar

    model, said = _promptable(look)
    field, embedding = _encoded(model, look)
    return Components(field.region, similar.principal_components(embedding), said)


def _promptable(look: Look) -> tuple[Any, str]:
    """The model that answers prompts, and what is to be said where it is not the one asked for."""
    model = look.load(look.model, look.device)
    model = getattr(model, "base", model)
    if hasattr(model, "decode_prompts"):
        return model, ""
    other = look.load(DEFAULT_MODEL, look.device)
    return other, f"{model.name} has no embedding to look into: {other.name} was used instead."


def _encoded(model: Any, look: Look) -> tuple[Field, ImageEmbedding]:
    """The field that is looked at, and its embedding."""
    region, config = look.region, model.config
    field = choose_field(
        look.source.shape_yx, region, view_px_per_px=1.0, mpp=look.mpp,
        mpp_range=config.mpp_range, field_px=config.field_px,
        at_yx=(region.y + region.height / 2, region.x + region.width / 2),
    )  # fmt: skip
    if field.region.height * field.region.width > LARGEST_PX:
        raise BadImageError(
            f"A field of {field.region.height} × {field.region.width} pixels is too large to look "
            "for single objects in. Zoom in, and search in the field in view."
        )
    source = look.source
    embedding, _ = field_embedding(model, source.read, source.shape_yx, field, look.mpp, look.cache)
    return field, embedding


def _at_level_0(labels: NDArray[np.int32], shape_yx: tuple[int, int]) -> NDArray[np.int32]:
    """Nearest pixel."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape_yx, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
