"""Macenko's normalisation finds the stains an image was mixed from, and takes them out."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.stain_norm import LIGHT, REFERENCE, macenko, stain_rows

OURS = np.array([[0.65, 0.70, 0.29], [0.25, 0.90, 0.35]])
OTHER = np.array([[0.50, 0.75, 0.43], [0.10, 0.85, 0.52]])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def amounts():
    """Tissue of cells (haematoxylin) in stroma (eosin), with glass around it."""
    rng = np.random.default_rng(0)
    haematoxylin = rng.gamma(2, 0.4, (60, 80)) * (rng.random((60, 80)) < 0.4)
    eosin = rng.gamma(3, 0.3, (60, 80))
    found = np.stack([haematoxylin, eosin], axis=2)
    found[:, :20] = 0
    return found


def image_of(amounts, rows, strength=(1.0, 1.0)):
    light = LIGHT * np.exp(-(amounts * strength) @ rows)
    return np.clip(light, 0, 255).astype(np.uint8)


def test_finds_the_stains_an_image_was_mixed_from(amounts):
    for rows in (OURS, OTHER):
        image = image_of(amounts, rows)
        density = -np.log((image.reshape(-1, 3).astype(np.float32) + 1) / LIGHT)
        found = stain_rows(density[(density >= 0.15).all(axis=1)])
        assert (np.sum(unit(found) * unit(rows), axis=1) > 0.995).all()


def test_differently_stained_images_become_alike(amounts):
    one, other = image_of(amounts, OURS), image_of(amounts, OTHER, strength=(0.7, 1.4))
    before = np.abs(one.astype(int) - other).mean()
    after = np.abs(macenko(one).astype(int) - macenko(other)).mean()
    assert after < before / 4
    assert macenko(one).shape == one.shape
    assert macenko(one).dtype == np.uint8


def test_the_reference_comes_out(amounts):
    normal = macenko(image_of(amounts, OURS))
    density = -np.log((normal.reshape(-1, 3).astype(np.float32) + 1) / LIGHT)
    found = stain_rows(density[(density >= 0.15).all(axis=1)])
    assert (np.sum(unit(found) * unit(REFERENCE), axis=1) > 0.99).all()
    again = macenko(normal)
    assert np.abs(again.astype(int) - normal).mean() < 5


@pytest.mark.parametrize("value", [0, 128, 240, 255])
def test_an_image_without_two_stains_stays_an_image(value):
    plain = np.full((30, 30, 3), value, np.uint8)
    found = macenko(plain)
    assert found.shape == plain.shape
    if value >= 240:
        assert found is plain
