"""Several magnifications, one answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.embedding import NOTHING, PromptedMask
from napari_pathsam.models.octaves import merged, resized
from napari_pathsam.models.sam2 import Sam2


def disc(n: int, radius: float, score: float) -> PromptedMask:
    """A disc in the middle of an ``n``-cell grid over a 64-pixel image; radius as a share of it."""
    yy, xx = (np.mgrid[:n, :n] + 0.5) / n - 0.5
    logits = np.where(yy**2 + xx**2 < radius**2, 8.0, -8.0).astype(np.float32)
    return PromptedMask(logits[None], np.array([score], np.float32), 0, (64, 64))


def test_one_magnification_is_left_as_it_is() -> None:
    one = disc(16, 0.3, 0.7)
    assert merged([one]) is one


def test_the_trusted_magnification_wins_and_the_other_is_a_suggestion() -> None:
    small, large = disc(32, 0.1, 0.2), disc(16, 0.4, 0.9)
    answer = merged([small, large])
    assert answer.low_res_logits.shape[1:] == (32, 32)  # the finest grid
    assert answer.score == pytest.approx(0.9)
    share = answer.mask.mean()
    assert share == pytest.approx(np.pi * 0.4**2, rel=0.05)
    assert len(answer.predicted_iou) == 2  # the mean, and the small one; the large one is the mean
    assert answer.mask_at(1).mean() == pytest.approx(np.pi * 0.1**2, rel=0.2)


def test_equal_trust_gives_the_mean() -> None:
    answer = merged([disc(32, 0.4, 0.8), disc(16, 0.4, 0.8), disc(8, 0.1, 0.8)])
    assert answer.mask.mean() == pytest.approx(np.pi * 0.4**2, rel=0.1)  # two of three say so


def test_where_something_was_decoded_is_the_union() -> None:
    fine, coarse = disc(32, 0.2, 0.8), disc(16, 0.2, 0.8)
    parts = [slice(10, 20), slice(12, 22)], [slice(4, 9), slice(5, 12)]
    placed = []
    for answer, (rows, cols) in zip((fine, coarse), parts, strict=True):
        logits = np.full_like(answer.low_res_logits, NOTHING)
        logits[:, rows, cols] = answer.low_res_logits[:, rows, cols]
        placed.append(PromptedMask(logits, answer.predicted_iou, 0, (64, 64), decoded=(rows, cols)))
    assert merged(placed).decoded == (slice(8, 20), slice(10, 24))
    whole = PromptedMask(coarse.low_res_logits, coarse.predicted_iou, 0, (64, 64))
    assert merged([placed[0], whole]).decoded is None


def test_resizing_keeps_what_has_the_size() -> None:
    logits = np.zeros((2, 8, 8), np.float32)
    assert resized(logits, (8, 8)) is logits
    assert resized(logits, (16, 4)).shape == (2, 16, 4)


def test_a_model_of_three_octaves_answers_like_one_image(tiny_model: Sam2) -> None:
    config = tiny_model.config.model_copy(update={"octaves": 3})
    model = Sam2(config).eval()
    model.load_state_dict(tiny_model.state_dict())
    image = np.random.default_rng(0).integers(0, 255, (96, 120, 3), dtype=np.uint8)
    embedding = model.encode(image)
    assert [e.shape_yx for e in embedding.coarser] == [(96, 120)] * len(embedding.coarser)
    assert embedding.coarser[0].input_yx[0] < embedding.input_yx[0]
    assert embedding.nbytes > sum(e.nbytes for e in embedding.coarser)
    click = Prompts().with_point(40, 50)
    first = model.decode_prompts(embedding, click)
    again = model.decode_prompts(embedding, click.with_point(5, 5, positive=False), previous=first)
    assert first.mask.shape == again.mask.shape == (96, 120)
    assert 1 <= len(first.predicted_iou) <= 3
    with torch.inference_mode():
        levels = model._decode((embedding, *embedding.coarser), [click], None, None)
    assert first.score == pytest.approx(max(level.score for (level,) in levels))
    boxes = [Prompts(box=(10, 10, 50, 60)), Prompts(box=(30, 40, 90, 110))]
    assert [m.mask.shape for m in model.decode_many(embedding, boxes)] == [(96, 120)] * 2
