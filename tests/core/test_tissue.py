"""Tissue is found where it is: not on glass, dust or ink, however faint, whatever the slide."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_pathsam.core.tissue import is_grey, tissue_mask

PENS = {"red": (200, 40, 50), "green": (30, 120, 60), "blue": (30, 40, 160), "black": (40, 40, 42)}


@pytest.fixture
def glass(rng: np.random.Generator) -> np.ndarray:
    """A slide's empty glass with the noise of a scanner, 8 µm per pixel."""
    noise = rng.normal(0, 2, (300, 320, 3)) + np.array([242, 240, 238])
    return noise.clip(0, 255).astype(np.uint8)


def stained(glass: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The glass with a disk of pink and purple on it, and where the disk is."""
    y, x = np.mgrid[: glass.shape[0], : glass.shape[1]]
    disk = np.hypot(y - 150, x - 160) < 90
    purple = ndimage.gaussian_filter(rng.normal(size=disk.shape), 3)[..., None] > 0
    density = np.where(purple, (0.65, 0.70, 0.29), (0.07, 0.50, 0.11)) * strength
    return np.where(disk[..., None], glass * np.exp(-density), glass).astype(np.uint8), disk


@pytest.mark.parametrize("strength", [0.12, 0.5, 1.5])
def test_tissue_is_found_however_faint(
    glass: np.ndarray, rng: np.random.Generator, strength: float
) -> None:
    image, disk = stained(glass, rng, strength)
    found = tissue_mask(image, um_per_px=8)
    assert found[ndimage.binary_erosion(disk, iterations=6)].mean() > 0.97
    assert found[~ndimage.binary_dilation(disk, iterations=8)].mean() < 0.01


@pytest.mark.parametrize("ink", PENS.values(), ids=PENS)
def test_pen_marks_are_no_tissue_and_hide_none(
    glass: np.ndarray, rng: np.random.Generator, ink: tuple[int, int, int]
) -> None:
    image, disk = stained(glass, rng, 1.0)
    y, x = np.mgrid[: glass.shape[0], : glass.shape[1]]
    ring = np.abs(np.hypot(y - 150, x - 160) - 130) < 6
    marked = image.copy()
    marked[ring] = ink
    found = tissue_mask(marked, um_per_px=8)
    assert found[ring].mean() < 0.02
    assert (found == tissue_mask(image, um_per_px=8))[disk].mean() > 0.99
    only_ink = glass.copy()
    only_ink[ring] = ink
    assert not tissue_mask(only_ink, um_per_px=8).any()


def test_empty_glass_and_dust_are_no_tissue(glass: np.ndarray) -> None:
    assert not tissue_mask(glass, um_per_px=8).any()
    dusty = glass.copy()
    dusty[50:54, 60:64] = 120
    dusty[200:, 100:] = dusty[200:, 100:] * 0.93  # a shadow: grey
    assert not tissue_mask(dusty, um_per_px=8).any()


def test_of_a_grey_picture_all_but_glass_is_worth_a_look(
    glass: np.ndarray, rng: np.random.Generator
) -> None:
    image, disk = stained(glass, rng, 0.5)
    assert not is_grey(image)
    assert not is_grey(glass)
    grey = np.repeat(image.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    jpeg = io.BytesIO()
    Image.fromarray(grey).save(jpeg, "jpeg", quality=60)
    assert is_grey(np.asarray(Image.open(jpeg)))
    assert is_grey(grey)
    found = tissue_mask(grey, um_per_px=8)
    assert found[ndimage.binary_erosion(disk, iterations=6)].mean() > 0.97
    assert found[~ndimage.binary_dilation(disk, iterations=8)].mean() < 0.01


def test_nothing_but_tissue_is_all_tissue(rng: np.random.Generator) -> None:
    colours = rng.normal((190, 120, 170), 12, (200, 200, 3))
    assert tissue_mask(colours.clip(0, 255).astype(np.uint8), um_per_px=8).all()


def test_real_tissue_under_real_pens(shared_data: Path) -> None:
    shares = {}
    for path in sorted((shared_data / "qc").glob("*.webp")):
        image = np.asarray(Image.open(path).convert("RGB"))
        shares[path.name.split("-")[0]] = tissue_mask(image, um_per_px=2).mean()
    assert shares["histolab_high"] > 0.99
    assert shares["histolab_medium"] > 0.9
    assert 0.3 < shares["low"] < 0.8  # fat: thin walls, empty inside
