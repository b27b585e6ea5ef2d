"""Answers found at several magnifications of one image, as one: the decoder says which it trusts.

A click on a nucleus and a click on a gland ask for objects of very different size. A small network
sees each best at its own magnification, so it looks at the image at full, half and quarter size.
The first suggestion is the mean of their best masks, weighted by predicted IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_pathsam.models.embedding import PromptedMask

SAME_OBJECT = 0.8
"""Masks that overlap more than this are one suggestion."""
SUGGESTIONS = 3
TRUST = 30.0
"""How steeply weight follows predicted IoU: 0.1 more counts 20 times as much. Chosen on GlaS train,
EBHI-Seg and TNBC validation images among 10, 30 and the best alone."""
SURE = 10.0
"""Logits beyond this weigh no more."""


def resized(logits: NDArray[np.float32], shape_yx: tuple[int, int]) -> NDArray[np.float32]:
    """``(k, h, w)`` logits on another grid of the same image."""
    if logits.shape[1:] == shape_yx:
        return logits
    smaller = any(n < m for n, m in zip(shape_yx, logits.shape[1:], strict=True))
    up = functional.interpolate(
        torch.from_numpy(logits)[None], shape_yx, mode="bilinear", antialias=smaller
    )
    result: NDArray[np.float32] = up[0].numpy()
    return result


def merged(answers: Sequence[PromptedMask]) -> PromptedMask:
    """Their weighted mean, then up to two masks that differ from it, on the first answer's grid."""
    first = answers[0]
    if len(answers) == 1:
        return first
    height, width = first.low_res_logits.shape[1:]
    grids = [resized(a.low_res_logits, (height, width)) for a in answers]
    best = np.array([a.score for a in answers])
    weights = np.exp(TRUST * (best - best.max()))
    weights /= weights.sum()
    sure = [np.clip(g[a.best], -SURE, SURE) for g, a in zip(grids, answers, strict=True)]
    mean = np.tensordot(weights, np.stack(sure), axes=1).astype(np.float32)
    # The mean comes first; the masks it was made of follow by their own scores.
    logits = np.concatenate([mean[None], *grids])
    scores = np.concatenate([[best.max()], *(a.predicted_iou for a in answers)])
    masks = logits > 0
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(_overlap(masks[i], masks[j]) < SAME_OBJECT for j in kept):
            kept.append(int(i))
        if len(kept) == SUGGESTIONS:
            break
    decoded = _union([_scaled(a, height, width) for a in answers])
    return replace(
        first, low_res_logits=logits[kept], predicted_iou=scores[kept], best=0, decoded=decoded
    )


def _overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _scaled(answer: PromptedMask, height: int, width: int) -> tuple[slice, slice] | None:
    """Where an answer was decoded, on the common grid."""
    if answer.decoded is None:
        return None
    parts = []
    for part, n, out in zip(
        answer.decoded, answer.low_res_logits.shape[1:], (height, width), strict=True
    ):
        parts.append(slice(part.start * out // n, -(-part.stop * out // n)))
    return (parts[0], parts[1])


def _union(parts: Sequence[tuple[slice, slice] | None]) -> tuple[slice, slice] | None:
    known = [p for p in parts if p is not None]
    if len(known) < len(parts):
        return None
    rows, cols = (
        slice(min(p[axis].start for p in known), max(p[axis].stop for p in known))
        for axis in (0, 1)
    )
    return (rows, cols)
