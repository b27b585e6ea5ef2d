"""Elastic deformation: smooth, seeded, the same for pixels and labels, and off when it is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_pathsam.training.augment import (
    AugmentConfig,
    bent,
    cut,
    cut_image,
    cut_labels,
    random_affine,
)

WHOLE = torch.tensor([[[1.0, 0, 0], [0, 1.0, 0]]])


def grid(seed: int, elastic: float, theta: torch.Tensor = WHOLE, patch_px: int = 64):
    return bent(theta, np.random.default_rng(seed), patch_px, AugmentConfig(elastic=elastic))


def test_nothing_is_drawn_when_it_is_off():
    rng = np.random.default_rng(0)
    theta = bent(WHOLE, rng, 64, AugmentConfig())
    assert theta is WHOLE
    assert rng.random() == np.random.default_rng(0).random()


def test_displacements_are_smooth_seeded_and_of_the_size_that_was_asked_for():
    plain = torch.nn.functional.affine_grid(WHOLE, [1, 3, 64, 64], align_corners=False)
    moved = torch.stack([(grid(seed, 3.0) - plain)[0] * 32 for seed in range(200)])  # patch pixels
    assert float(moved[:, 0, 0].std()) == pytest.approx(3, rel=0.15)
    assert float(moved.diff(dim=1).abs().max()) < 1.5  # neighbours move alike
    assert torch.equal(grid(7, 3.0), grid(7, 3.0))
    assert not torch.equal(grid(7, 3.0), grid(8, 3.0))


def test_labels_follow_their_pixels():
    labels = np.zeros((1, 96, 96), np.int32)
    labels[0, 30:60, 20:70] = 1
    image = np.repeat(np.where(labels[0] == 1, 40, 220).astype(np.uint8)[..., None], 3, axis=2)
    theta = random_affine(np.random.default_rng(2), (96, 96), 64, 0.8, AugmentConfig())
    pixels, found = cut(image, labels, grid(4, 4.0, theta), 64)
    dark = pixels[0, 0].numpy() < 130
    assert (dark != (found[0] == 1)).mean() < 0.02
    straight = cut_labels(labels, theta, 64)[0]
    assert (straight != found[0]).mean() > 0.02


def test_a_bent_cut_shrinks_as_its_matrix_does():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (400, 400, 3)).astype(np.uint8)
    smooth = cut_image(image, grid(1, 1e-6), 64)
    assert torch.allclose(smooth, cut_image(image, WHOLE, 64), atol=0.1)


@pytest.mark.parametrize("elastic", [0.0, 4.0])
def test_mixed_precision_moves_nothing(elastic):
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    labels = np.arange(400 * 400, dtype=np.int32).reshape(1, 400, 400)
    theta = random_affine(np.random.default_rng(2), (400, 400), 256, 0.8, AugmentConfig())
    pixels, found = cut(image, labels, grid(4, elastic, theta, 256), 256)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = grid(4, elastic, theta, 256)
        assert mixed.dtype == torch.float32
        pixels_then, found_then = cut(image, labels, mixed, 256)
    assert torch.equal(pixels, pixels_then)
    assert np.array_equal(found, found_then)
