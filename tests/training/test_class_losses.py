"""The class loss: the formula by hand, and that ignored pixels are as if they were not there."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_pathsam.training.losses import ClassSums, class_loss, class_sums

SETTINGS = [
    {"alpha": 0.3, "beta": 0.4, "over_classes": over, "dice_over": dice}
    for over, dice in product(("sum", "mean"), ("image", "batch"))
]
Batch = Callable[..., tuple[Tensor, Tensor, Tensor]]


@pytest.fixture
def batch() -> Batch:
    """Logits ``(2, 3, 6, 8)``, IoU and targets, the same every time."""

    def make(n: int = 2) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(0)
        logits = torch.randn(n, 3, 6, 8, generator=g)
        iou = torch.rand(n, 3, generator=g)
        return logits, iou, torch.randint(0, 3, (n, 6, 8), generator=g)

    return make


def by_hand(logits: Tensor, iou: Tensor, target: Tensor, *, alpha, beta, over_classes, dice_over):
    """Pixel by pixel, with numpy; a target below 0 is skipped."""
    x, guess, t = (a.double().numpy() for a in (logits, iou, target))
    n_images, n_classes = guess.shape
    dices, focals, errors, pixels = [], [], [], []
    for b in range(n_images):
        known = [
            (int(t[b, i, j]), x[b, :, i, j]) for i, j in np.ndindex(t[b].shape) if t[b, i, j] >= 0
        ]
        if not known:
            continue
        softmax = [np.exp(v - v.max()) / np.exp(v - v.max()).sum() for _, v in known]
        dice, focal, error = [], [], []
        for k in range(n_classes):
            overlap = sum(p[k] for (c, _), p in zip(known, softmax, strict=True) if c == k)
            total = sum(p[k] for p in softmax) + sum(c == k for c, _ in known)
            dice.append((overlap, total))
            each = []
            for c, v in known:
                p = 1 / (1 + math.exp(-v[k]))
                p_true = p if c == k else 1 - p
                each.append(-((1 - p_true) ** 2) * math.log(p_true))
            focal.append(sum(each))
            mask = [int(v.argmax()) == k for _, v in known]
            both = sum(m and c == k for m, (c, _) in zip(mask, known, strict=True))
            either = sum(m or c == k for m, (c, _) in zip(mask, known, strict=True))
            error.append((guess[b, k] - both / max(1, either)) ** 2)
        dices.append(dice), focals.append(focal), errors.append(error), pixels.append(len(known))
    terms = []
    for k in range(n_classes):
        if dice_over == "batch":
            overlap, total = (sum(d[k][i] for d in dices) for i in (0, 1))
            dice = 1 - (2 * overlap + 1) / (total + 1)
            focal = sum(f[k] for f in focals) / sum(pixels)
        else:
            dice = np.mean([1 - (2 * d[k][0] + 1) / (d[k][1] + 1) for d in dices])
            focal = np.mean([f[k] / n for f, n in zip(focals, pixels, strict=True)])
        error = np.mean([e[k] for e in errors])
        terms.append((1 - alpha) * dice + alpha * focal + beta * error)
    return sum(terms) if over_classes == "sum" else np.mean(terms)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_formula(settings: dict, batch: Batch) -> None:
    logits, iou, target = batch(3)
    target[0, :3] = -1
    target[2] = -1  # an image nobody labelled
    found = class_loss(class_sums(logits, iou, target), **settings)
    assert float(found) == pytest.approx(by_hand(logits, iou, target, **settings), rel=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ignored_pixels_are_as_if_cut_off(settings: dict, batch: Batch) -> None:
    """Loss and gradients of an image half of which is ignored are those of the other half."""
    logits, iou, target = batch()
    cropped = logits[..., :4].clone().requires_grad_()
    wanted = class_loss(class_sums(cropped, iou, target[..., :4]), **settings)
    wanted.backward()
    target[..., 4:] = -1
    logits[..., 4:] *= 100  # whatever is there
    whole = logits.clone().requires_grad_()
    found = class_loss(class_sums(whole, iou, target), **settings)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    assert torch.allclose(whole.grad[..., :4], cropped.grad, atol=1e-7)
    assert whole.grad[..., 4:].abs().max() == 0


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_image_without_labels_counts_for_nothing(settings: dict, batch: Batch) -> None:
    logits, iou, target = batch(3)
    wanted = class_loss(class_sums(logits[:2], iou[:2], target[:2]), **settings)
    target[2] = -1
    found = class_loss(class_sums(logits, iou, target), **settings)
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)
    nothing = ClassSums.of_nothing(3, torch.device("cpu"))
    assert class_loss(nothing, **settings).isfinite()


@pytest.mark.parametrize("dice_over", ["image", "batch"])
def test_the_sum_is_as_many_times_the_mean_as_there_are_classes(dice_over, batch: Batch) -> None:
    sums = class_sums(*batch())
    over = {
        name: float(class_loss(sums, alpha=0.2, beta=0.1, over_classes=name, dice_over=dice_over))
        for name in ("sum", "mean")
    }
    assert over["sum"] == pytest.approx(3 * over["mean"])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_parts_of_a_batch_add_up(settings: dict, batch: Batch) -> None:
    """What ``gather`` sums over processes: each part's vector, then one loss."""
    logits, iou, target = batch(3)
    target[1, 2:] = -1
    packed: list[Tensor] = []

    def keep(vector: Tensor) -> Tensor:
        packed.append(vector)
        return vector

    for part in (slice(0, 1), slice(1, 3), slice(3, 3)):
        class_loss(class_sums(logits[part], iou[part], target[part]), **settings, gather=keep)
    whole = class_sums(logits, iou, target)
    found = class_loss(whole, **settings, gather=lambda own: torch.stack(packed).sum(dim=0))
    assert float(found) == pytest.approx(float(class_loss(whole, **settings)), rel=1e-6)
