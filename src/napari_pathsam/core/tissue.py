"""Where tissue lies on a small picture of a slide; pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FAINTEST, SUREST = 0.03, 0.12
"""The least optical density that can be tissue, and one that always is; Otsu decides between."""
GLASS = 200
"""Empty glass is brighter than this in all channels; else the picture is taken to hold none."""
INK = 0.3
"""Ink is denser than this."""
DARK = 48
"""Stained tissue is brighter in some channel, the ground of fluorescence darker in all."""
GREY = 8
"""JPEG makes the channels of grey differ by less; the faintest stain makes them differ by more."""


def tissue_mask(image: NDArray[np.uint8], *, um_per_px: float | None = None) -> NDArray[np.bool_]:
    """Where an overview shows tissue: stained, faintly too, and no pen mark, dust or empty glass.

    Of a grey picture (:func:`is_grey`), where there is anything: only colour tells stain from dust.

    Optical density against the slide's own glass, its threshold by Otsu's method (IEEE Trans. SMC
    9(1), 1979, from scikit-image) within bounds, so that a picture of nothing but tissue or nothing
    but glass has no threshold in the wrong place. Pen marks count where tissue surrounds them.

    Parameters
    ----------
    image
        ``(H, W, 3)`` uint8, from 2 to 40 µm per pixel.
    um_per_px
        Its pixel size; specks below 50 µm go, holes below 150 µm close. None: 8 µm.
    """
    from skimage.filters import threshold_otsu
    from skimage.morphology import closing, disk, remove_small_holes, remove_small_objects

    um_per_px = min(max(um_per_px or 8.0, 2.0), 40.0)
    density = optical_density(image)
    grey = is_grey(image)
    ink = np.zeros(image.shape[:2], bool) if grey else ink_mask(density)
    ink = ndimage.binary_dilation(ink, iterations=max(1, round(8 / um_per_px)))
    density[ink] = 0
    smooth = ndimage.gaussian_filter(density, (12 / um_per_px, 12 / um_per_px, 0))
    stained = smooth.max(2)
    if not grey:
        stained -= 0.8 * smooth.min(2)  # shadows and dust are grey
    low, high = float(np.quantile(stained, 0.01)), float(np.quantile(stained, 0.99))
    otsu = float(threshold_otsu(np.clip(stained, 0, 0.4))) if high - low > 0.02 else SUREST
    clear = (stained > min(max(0.6 * otsu, FAINTEST), SUREST)) & ~ink
    clear = closing(clear, disk(max(1, round(30 / um_per_px)), decomposition="sequence")) & ~ink
    reach = 2 * round(150 / um_per_px) + 1
    tissue, glass = (
        ndimage.uniform_filter(part.astype(np.float32), reach, mode="nearest")
        for part in (clear, ~clear & ~ink)
    )
    whole = clear | (ink & (tissue > glass))
    whole = remove_small_objects(whole, max_size=max(4, int((50 / um_per_px) ** 2)))
    filled: NDArray[np.bool_] = remove_small_holes(whole, max_size=int((150 / um_per_px) ** 2))
    return filled


def is_dark(image: NDArray[np.uint8]) -> bool:
    """Whether most of ``(H, W, 3)`` is darker than light that came through tissue or glass."""
    return float(np.median(image.max(2))) < DARK


def is_grey(image: NDArray[np.uint8]) -> bool:
    """Whether ``(H, W, 3)`` has no colour, so that stain and shadow look alike."""
    return int(np.ptp(image, axis=2).max()) <= GREY


def optical_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(H, W, 3)``, minus the logarithm of the light that gets through, glass being 0."""
    bright = image[(image > GLASS).all(2)]
    glass = np.full(3, 245.0)
    if len(bright) > 0.001 * image.shape[0] * image.shape[1]:
        glass = np.quantile(bright, 0.75, axis=0)
    light = (image.astype(np.float32) + 1) / (glass.astype(np.float32) + 1)
    density: NDArray[np.float32] = np.clip(-np.log(light), 0, None).astype(np.float32)
    return density


def ink_mask(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Felt pen: red, green, blue and black lets through what no stain of tissue does.

    Haematoxylin, eosin, DAB and blood all hold back green most, or blue; red ink holds back green
    and blue alike and no red, green ink red and blue, blue ink red, black all three.
    Of real H&E at 2 to 8 µm per pixel less than 0.5 % of the tissue looks like ink, but for slides
    with strong colour casts; there it is rescued by the tissue round it.
    """
    r, g, b = (density[..., i] for i in range(3))
    top = density.max(2)
    red = (r < 0.15 * top) & (b > 0.8 * g)
    green = ((g < 0.9 * r) & (g < 0.9 * b)) | ((g < 0.7 * r) & (b > 0.5 * r))
    blue = (r > 1.1 * g) & (b < 0.4 * r)
    black = (density.min(2) > 0.55) & (density.min(2) > 0.75 * top)
    found: NDArray[np.bool_] = ((top > INK) & (red | green | blue)) | black
    return found
