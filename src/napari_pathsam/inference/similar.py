"""Find similar: objects of a field that look like a few that were accepted; the features as RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from napari_pathsam.core.errors import BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import regions, split_touching
from napari_pathsam.core.prompts import Prompts, innermost_point

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.pathsam import PathSam
    from napari_pathsam.models.sam2 import Sam2

RIDGE = 100.0
"""Times the mean variance of the features: keeps few cells from deciding by chance. From three
nuclei of the sample `breast_1` to the others, area under the curve: 0.58 at 0.01, 0.63 at 0.1, 0.74
at 1, 0.86 at 10, 0.91 at 100."""
ROUNDS = 3
"""Fits; after each, cells outside that look like the examples no longer count as different."""
SIZES = (0.25, 4.0)
"""A candidate's area, as a part of the smallest and of the largest example."""
SAME_OBJECT = 0.5
"""Candidates that overlap each other, or an example, more than this (IoU) are one."""
AT_ONCE = 32


@dataclass(frozen=True)
class Candidate:
    """A proposed object: ``mask`` over the pixels ``region`` of the encoded image, and its score.

    The score is the mean likeness inside, about 0 for the field's other tissue and 1 for the
    examples.
    """

    region: Region
    mask: NDArray[np.bool_]
    score: float

    def in_field(self, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask ``(H, W)`` of the whole encoded image."""
        whole = np.zeros(shape_yx, bool)
        whole[self.region.slices] = self.mask
        return whole


def features(embedding: ImageEmbedding) -> Tensor:
    """``(C, h, w)`` on the stride-8 grid: what every encoder saw, each channel standardised.

    The trunk's levels and the pathology features, where there are any, count alike.
    """
    grid = [2 * n for n in embedding.image_embed.shape[-2:]]
    levels = [*embedding.trunk] or [embedding.image_embed]
    levels += [] if embedding.pathology is None else [embedding.pathology]
    parts = []
    for level in levels:
        at = functional.interpolate(level.float(), grid, mode="bilinear", antialias=True)[0]
        at = at - at.mean((1, 2), keepdim=True)
        parts.append(at / (at.std((1, 2), keepdim=True) + 1e-6) / at.shape[0] ** 0.5)
    return torch.cat(parts).cpu()


def likeness(embedding: ImageEmbedding, masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """How much each cell looks like those inside the masks: ``(h, w)``, stride 8.

    A linear discriminant, in closed form: ridge regression of 1 inside and 0 outside, both sides
    weighing the same. Outside there are objects of the wanted kind, too; what looks like the
    examples is left out of the outside, and the fit repeated.

    Parameters
    ----------
    embedding
        Of the field.
    masks
        ``(H, W)`` each, of the encoded image's shape.
    """
    x = features(embedding)
    channels, height, width = x.shape
    wanted = np.any(masks, axis=0)
    if not wanted.any() or wanted.shape != embedding.shape_yx:
        raise BadPromptError(
            f"Masks of the shape {wanted.shape} that hold {int(wanted.sum())} pixels came; at "
            f"least one object in the field of {embedding.shape_yx} pixels is needed."
        )
    share = torch.from_numpy(wanted.astype(np.float32))[None, None]
    share = functional.interpolate(share, (height, width), mode="area")[0, 0].reshape(-1)
    inside = (share >= min(0.5, float(share.max()))).double()
    outside = (share < 0.05).double()
    flat = x.reshape(channels, -1).double()
    flat = torch.cat([flat, torch.ones(1, flat.shape[1], dtype=torch.float64)])
    scores = share.double()
    for _ in range(ROUNDS):
        weight = inside / inside.sum() + outside / outside.sum().clamp(min=1)
        gram = (flat * weight) @ flat.T
        ridge = RIDGE * float(gram.diagonal()[:-1].mean())
        eye = torch.eye(channels + 1, dtype=torch.float64)
        eye[-1, -1] = 1e-6
        solution = torch.linalg.solve(gram + ridge * eye, flat @ (weight * inside))
        scores = solution @ flat
        high, low = (float((scores * w).sum() / w.sum().clamp(min=1)) for w in (inside, outside))
        scores = (scores - low) / max(high - low, 1e-6)
        outside = ((share < 0.05) & (scores < 0.5)).double()
    return scores.reshape(height, width).numpy().astype(np.float32)


def find_similar(
    model: PathSam | Sam2,
    embedding: ImageEmbedding,
    examples: Sequence[NDArray[np.bool_]],
    *,
    least_score: float = 0.5,
    at_most: int = 200,
) -> list[Candidate]:
    """Objects in the field that look like the examples, likeliest first; examples are left out.

    Where cells look alike they are split into pieces of about the examples' size; the prompt
    decoder outlines each from its box and inner point.

    Parameters
    ----------
    model
        Made the embedding.
    embedding
        Of the field.
    examples
        One or a few masks ``(H, W)`` of the encoded image's shape.
    least_score
        Mean likeness from which a candidate is proposed.
    at_most
        So many, the likeliest.

    Raises
    ------
    BadPromptError
        No example has a pixel in the field.
    """
    alike = likeness(embedding, examples)
    full = functional.interpolate(
        torch.from_numpy(alike)[None, None], embedding.shape_yx, mode="bilinear"
    )[0, 0].numpy()
    sizes = [int(mask.sum()) for mask in examples if mask.any()]
    radius = float(np.sqrt(np.median(sizes) / np.pi))
    pieces = split_touching(ndimage.binary_opening(full > 0.5, iterations=1), max(2.0, radius))
    seeds = _sized(regions(pieces), pieces, sizes)
    prompts = [_prompts(pieces[box.slices] == label, box) for label, box in seeds.items()]
    found: list[Candidate] = []
    for start in range(0, len(prompts), AT_ONCE):
        for answer in model.decode_many(embedding, prompts[start : start + AT_ONCE]):
            candidate = _candidate(answer.mask, full)
            if candidate is not None and _fits(candidate, sizes, least_score):
                found.append(candidate)
    found.sort(key=lambda c: -c.score)
    taken = np.zeros(embedding.shape_yx, bool)
    for mask in examples:
        taken |= mask
    return _apart(found, taken)[:at_most]


def _sized(
    boxes: dict[int, Region], pieces: NDArray[np.int32], sizes: Sequence[int]
) -> dict[int, Region]:
    """Pieces that may be an object; the decoder may still double or halve them."""
    low, high = SIZES[0] * min(sizes) / 2, SIZES[1] * max(sizes) * 2
    counts = np.bincount(pieces.ravel())
    return {label: box for label, box in boxes.items() if low <= counts[label] <= high}


def _prompts(mask: NDArray[np.bool_], box: Region) -> Prompts:
    y, x = innermost_point(mask)
    return Prompts(
        points_yx=((y + box.y, x + box.x),),
        positive=(True,),
        box=(float(box.y), float(box.x), float(box.y + box.height), float(box.x + box.width)),
    )


def _candidate(mask: NDArray[np.bool_], alike: NDArray[np.float32]) -> Candidate | None:
    box = regions(mask.astype(np.uint8)).get(1)
    if box is None:
        return None
    inside = mask[box.slices]
    return Candidate(box, inside, float(alike[box.slices][inside].mean()))


def _fits(candidate: Candidate, sizes: Sequence[int], least_score: float) -> bool:
    size = int(candidate.mask.sum())
    right = SIZES[0] * min(sizes) <= size <= SIZES[1] * max(sizes)
    return right and candidate.score >= least_score


def _apart(found: Sequence[Candidate], taken: NDArray[np.bool_]) -> list[Candidate]:
    """The best of those that overlap; none that lies on an example."""
    kept = []
    for candidate in found:
        window = taken[candidate.region.slices]
        if np.count_nonzero(window & candidate.mask) > SAME_OBJECT * candidate.mask.sum() / 2:
            continue
        window |= candidate.mask
        kept.append(candidate)
    return kept


def principal_components(embedding: ImageEmbedding) -> NDArray[np.uint8]:
    """The first three principal components of the features as red, green and blue: ``(H, W, 3)``.

    Each is stretched from its 1st to its 99th percentile; its sign is the one that makes the
    largest loading positive, so the same image has the same colours.
    """
    x = features(embedding)
    channels, height, width = x.shape
    flat = x.reshape(channels, -1).double()
    flat = flat - flat.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh(flat @ flat.T / flat.shape[1])
    first = vectors.flip(1)[:, :3].T  # largest variance first
    signs = first.gather(1, first.abs().argmax(1, keepdim=True)).sign()
    projected = ((first * signs) @ flat).reshape(-1, height, width)
    low, high = (projected.flatten(1).quantile(q, dim=1)[:, None, None] for q in (0.01, 0.99))
    scaled = ((projected - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    full = functional.interpolate(scaled[None].float(), embedding.shape_yx, mode="bilinear")[0]
    picture: NDArray[np.uint8] = (full * 255).round().byte().permute(1, 2, 0).numpy()
    return picture
