"""Macenko's stain normalisation: every H&E image in the colours of one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REFERENCE = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
"""Optical density of haematoxylin and eosin in the image that others are brought to."""
REFERENCE_AMOUNTS = np.array([1.9705, 1.0308])
"""How much of each there is in its darkest per cent. Both are the values that came with the
method's first public implementation (M. Veta, 2012) and that others use since."""

THIN = 0.15
"""Pixels through which nearly all light comes tell nothing of the stains."""
FEWEST = 64
"""With fewer stained pixels than this, an image is left as it is."""
LIGHT = 240.0


def macenko(image: NDArray[np.uint8], *, extreme: float = 1.0) -> NDArray[np.uint8]:
    """``(H, W, 3)`` uint8 with the stains of the reference.

    Absorbed light adds up: ``-ln(I / 240) = C · S`` with two rows ``S``, the optical density of
    haematoxylin and of eosin, and amounts ``C`` of each in every pixel. The rows are the outermost
    directions (``extreme`` and ``100 - extreme`` per cent) of stained pixels within the plane of
    the two largest eigenvectors of their covariance. Amounts are scaled so that their 99th
    percentiles are the reference's, and mixed with its rows.

    An image with hardly any tissue comes back as it is.

    Source: Macenko et al., ISBI 2009, "A method for normalizing histology slides for quantitative
    analysis".
    """
    density = -np.log((image.reshape(-1, 3).astype(np.float32) + 1) / LIGHT)
    stained = density[(density >= THIN).all(axis=1)]
    if len(stained) < FEWEST:
        return image
    stains = stain_rows(stained, extreme)
    amounts = density @ np.linalg.pinv(stains).astype(np.float32)
    top = np.percentile(amounts[(density >= THIN).all(axis=1)], 99, axis=0)
    if not (top > 1e-3).all():
        return image
    amounts *= (REFERENCE_AMOUNTS / top).astype(np.float32)
    light = LIGHT * np.exp(-amounts @ REFERENCE.astype(np.float32)) - 1
    result: NDArray[np.uint8] = np.clip(light, 0, 255).astype(np.uint8).reshape(image.shape)
    return result


def stain_rows(density: NDArray[np.float32], extreme: float = 1.0) -> NDArray[np.float64]:
    """Unit optical densities ``(2, 3)`` of haematoxylin and eosin, from ``(n, 3)`` stained pixels.

    Haematoxylin is the one that absorbs more red.
    """
    plane = np.linalg.eigh(np.cov(density.T.astype(np.float64)))[1][:, 1:]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)  # towards darker, or angles may wrap
    across, along = (density @ plane).T
    angles = np.percentile(np.arctan2(along, across), [extreme, 100 - extreme])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    return rows[np.argsort(-rows[:, 0])]
