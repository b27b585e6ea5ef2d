"""Colours of what is measured at each pixel, laid over classes and image."""

from __future__ import annotations

from typing import Any

import numpy as np


def uncertainty_colors() -> Any:
    """A colormap that is clear where the model is sure: the classes below stay in sight."""
    from napari.utils.colormaps import Colormap, ensure_colormap

    colors = np.array(ensure_colormap("magma").colors)
    colors[:, 3] = np.linspace(0, 1, len(colors))
    return Colormap(colors, name="PathSAM uncertainty", display_name="uncertainty")
