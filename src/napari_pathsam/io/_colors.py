"""Colour profiles: a scanner's colours as those of a screen (sRGB)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._levels import RGB


def to_srgb(profile: bytes, *, where: str) -> Callable[[RGB], RGB]:
    """What turns RGB pixels of a profile (ICC) into sRGB, as the profile intends.

    Raises
    ------
    BadFileError
        The profile is damaged, or not one of RGB pixels.
    """
    from PIL import Image, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), "RGB", "RGB",
            renderingIntent=ImageCms.Intent(ImageCms.getDefaultIntent(source)),
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise BadFileError(
            f"The colour profile in {where} cannot be applied ({error}): it is damaged or not one "
            "of RGB pixels. Open the slide without it (its colours are then the scanner's own)."
        ) from error

    def convert(pixels: RGB) -> RGB:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(ImageCms.applyTransform(image, transform))

    return convert
