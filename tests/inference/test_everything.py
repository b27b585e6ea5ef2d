"""A grid of points finds what SAM's own rules keep, counted once; computed a second way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.inference.everything import (
    EverythingSettings,
    FoundObject,
    grid_points,
    object_map,
    segment_everything,
    without_duplicates,
)
from napari_pathsam.models.embedding import ImageEmbedding, PromptedMask
from napari_pathsam.models.sam2_config import SAM2_CONFIGS

LOOSE = EverythingSettings(points_per_side=9, predicted_iou=0, stability=0.8, at_once=7)
SHAPE = (96, 128)
EMBEDDING = ImageEmbedding(None, (), (), SHAPE, SHAPE, "discs")


class Discs:
    """Every point gets three discs round the middle of its 24 pixel cell, sharp or blurred."""

    config = SAM2_CONFIGS["sam2.1-tiny"]

    def decode_prompts(self, embedding, prompts, *, previous=None, multimask=None):
        (y, x) = prompts.points_yx[0]
        rng = np.random.default_rng([int(y), int(x)])
        rows, cols = np.indices(embedding.shape_yx)
        away = np.hypot(rows - (y // 24 * 24 + 12), cols - (x // 24 * 24 + 12))
        radii = rng.uniform(4, 16, 3) * (1, 1, 6)
        logits = (radii[:, None, None] - away) * rng.uniform(0.5, 9, 3)[:, None, None]
        scores = rng.uniform(0.5, 1, 3).astype(np.float32)
        return PromptedMask(logits.astype(np.float32), scores, 0, embedding.shape_yx)

    def decode_many(self, embedding, prompts, *, whole=False):
        return [self.decode_prompts(embedding, one) for one in prompts]


def last(steps):
    return list(steps)[-1].objects


def test_points_are_the_centres_of_equal_shares():
    points = grid_points((4, 8), 2)
    assert points == [(0.5, 1.5), (0.5, 5.5), (2.5, 1.5), (2.5, 5.5)]
    assert all(Region.of((3, 7)).contains(*p) for p in grid_points((3, 7), 32))


def test_what_is_kept_is_what_sams_generator_keeps():
    """One point at a time, with upstream's stability score, boxes and suppression."""
    from sam2.utils.amg import batched_mask_to_box, calculate_stability_score
    from torchvision.ops import batched_nms

    logits, ious = [], []
    for point in grid_points(SHAPE, LOOSE.points_per_side):
        answer = Discs().decode_prompts(EMBEDDING, Prompts(points_yx=(point,), positive=(True,)))
        logits += [torch.from_numpy(answer.logits_at(i)) for i in range(3)]
        ious += answer.predicted_iou.tolist()
    stack, scores = torch.stack(logits), torch.tensor(ious)
    stability = calculate_stability_score(stack, 0.0, LOOSE.stability_offset)
    least = float(scores.median())
    at = (scores > least) & (stability >= LOOSE.stability)
    boxes = batched_mask_to_box(stack[at] > 0).float()
    kept = batched_nms(boxes, scores[at], torch.zeros(len(boxes)), LOOSE.duplicate_iou)
    wanted = (stack[at] > 0)[kept].numpy()

    settings = LOOSE.model_copy(update={"predicted_iou": least})
    found = last(segment_everything(Discs(), EMBEDDING, settings))
    assert 5 < len(found) == len(wanted) < int(at.sum()) < len(stack)
    for one, mask, i in zip(found, wanted, kept, strict=True):
        whole = np.zeros(SHAPE, bool)
        whole[one.region.slices] = one.mask
        assert (whole == mask).all()
        assert one.predicted_iou == pytest.approx(float(scores[at][i]))
        assert one.stability == pytest.approx(float(stability[at][i]))


def test_large_masks_go_before_they_hide_others():
    areas = [o.area for o in last(segment_everything(Discs(), EMBEDDING, LOOSE))]
    half = LOOSE.model_copy(update={"largest_share": 0.5})
    small = [o.area for o in last(segment_everything(Discs(), EMBEDDING, half))]
    assert max(areas) > np.prod(SHAPE) / 2 >= max(small)
    assert len(small) >= sum(area <= np.prod(SHAPE) / 2 for area in areas)


def test_steps_count_up_and_closing_stops():
    steps = segment_everything(Discs(), EMBEDDING, LOOSE)
    assert next(steps).done == 7
    steps.close()
    assert list(steps) == []
    done = [(s.done, s.total) for s in segment_everything(Discs(), EMBEDDING, LOOSE)]
    assert done == [(min(n, 81), 81) for n in range(7, 88, 7)]


def test_how_many_points_go_together_changes_nothing_on_a_real_model(tiny_model):
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    embedding = tiny_model.encode(image.repeat(8, 0).repeat(8, 1))
    some = LOOSE.model_copy(update={"points_per_side": 3, "stability": 0.2, "duplicate_iou": 1})
    one, all_ = (
        last(segment_everything(tiny_model, embedding, some.model_copy(update={"at_once": n})))
        for n in (1, 9)
    )
    assert len(one) > 1
    assert sorted(o.area for o in one) == pytest.approx(sorted(o.area for o in all_), rel=0.01)


def test_nothing_trusted_is_nothing_found():
    strict = LOOSE.model_copy(update={"predicted_iou": 1.0})
    assert last(segment_everything(Discs(), EMBEDDING, strict)) == ()
    # by default each generation's own threshold
    both = []
    for sam1 in (False, True):
        model = _Says(0.85, sam1=sam1)
        settings = EverythingSettings(points_per_side=1)
        both.append(len(last(segment_everything(model, EMBEDDING, settings))))
    assert both == [1, 0]


class _Says:
    """One square at every point, trusted so much."""

    def __init__(self, score: float, *, sam1: bool) -> None:
        self.score = score
        self.config = SAM2_CONFIGS["sam-vit-b" if sam1 else "sam2.1-tiny"]

    def decode_many(self, embedding, prompts, *, whole=False):
        logits = np.full((1, *embedding.shape_yx), -9, np.float32)
        logits[:, 20:60, 20:60] = 9
        score = np.array([self.score], np.float32)
        return [PromptedMask(logits, score, 0, embedding.shape_yx) for _ in prompts]


def found(y: int, x: int, side: int, score: float) -> FoundObject:
    return FoundObject(np.ones((side, side), bool), Region(y, x, side, side), score, 1.0, (y, x))


def test_of_duplicates_the_most_trusted_stays_and_smaller_ones_lie_on_top():
    big, again, other, inside = (
        found(0, 0, 20, 0.8),
        found(1, 1, 20, 0.9),
        found(30, 30, 9, 0.5),
        (found(2, 2, 4, 0.7)),
    )
    kept = without_duplicates([big, again, other, inside], 0.7)
    assert kept == [again, inside, other]
    ids = object_map(kept, (40, 40))
    assert (ids[3, 3], ids[10, 10], ids[35, 35], ids[0, 0]) == (2, 1, 3, 0)
    assert without_duplicates([], 0.7) == []
    line = replace(big, mask=np.ones((1, 1), bool), region=Region(5, 5, 1, 1))
    assert len(without_duplicates([line, big], 0.7)) == 2  # a single pixel has no box to compare


@pytest.mark.slow
def test_the_packaged_model_finds_nuclei_at_its_own_thresholds_and_not_at_sams():
    from napari_pathsam.models.catalogue import load_model
    from napari_pathsam.samples import load_sample

    model, sample = load_model("pathsam-nano", "cpu"), load_sample("breast_1")
    image, labels = sample.image[:256, :256], sample.labels[:256, :256]
    embedding = model.encode(image, mpp=sample.mpp)
    grid = EverythingSettings(points_per_side=10)
    objects = last(segment_everything(model, embedding, grid))
    right = [o for o in objects if (labels[o.region.slices][o.mask] > 0).mean() > 0.5]
    assert len(right) >= 4
    assert len(right) >= 0.7 * len(objects)
    assert model.config.trusted == SAM2_CONFIGS["pathsam-nano"].trust
    assert not any(o.predicted_iou > 0.8 and o.stability >= 0.95 for o in objects)
