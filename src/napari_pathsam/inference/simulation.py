"""The simulated annotator at work on a model: used alike to train, to validate and to evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.prompts import Prompts, innermost_point, next_click

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
    from napari_pathsam.models.promptable import Promptable


@dataclass(frozen=True)
class Turn:
    """One click and its answer: all prompts so far, the mask ``(H, W)``, the decode's seconds."""

    prompts: Prompts
    mask: NDArray[np.bool_]
    score: float
    seconds: float


def clicking(
    model: Promptable,
    embedding: ImageEmbedding,
    target: NDArray[np.bool_],
    *,
    clicks: int,
    largest_share: float | None = None,
    known: NDArray[np.bool_] | None = None,
) -> Iterator[Turn]:
    """Click at one object until the clicks are spent or nothing is wrong any more.

    ``largest_share`` is that of :func:`small_enough`. Where nobody looked (``known`` is False)
    nothing is wrong, and the masks are empty.
    """
    prompts = Prompts().with_point(*innermost_point(target))
    previous = None
    for left in range(clicks - 1, -1, -1):
        started = perf_counter()
        answer = model.decode_prompts(embedding, prompts, previous=previous)
        previous, mask = small_enough(answer, largest_share)
        if known is not None:
            mask = mask & known
        yield Turn(prompts, mask, previous.score, perf_counter() - started)
        click = next_click(target, mask) if left else None
        if click is None:
            return
        prompts = prompts.with_point(*click[0], positive=click[1])


def small_enough(
    answer: PromptedMask, largest_share: float | None
) -> tuple[PromptedMask, NDArray[np.bool_]]:
    """The most trusted mask that covers at most this share of the image, in front; and that mask.

    The post-processing of the SAM-Path and Path-SAM2 papers is 0.5. An empty mask where all are
    larger. None: the answer as it is.
    """
    if largest_share is None:
        return answer, answer.mask
    rest = [int(i) for i in np.argsort(-answer.predicted_iou, kind="stable") if i != answer.best]
    for index in (answer.best, *rest):
        mask = answer.mask_at(index)
        if mask.mean() <= largest_share:
            return answer.with_best(index), mask
    return answer, np.zeros(answer.shape_yx, bool)


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 when both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0
