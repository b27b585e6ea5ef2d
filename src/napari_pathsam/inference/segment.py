"""One image: the object that prompts ask for, at the resolution the model is at home in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError, BadPromptError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.inference.context import encode_field
from napari_pathsam.io.slides import ArraySlide, Slide

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.promptable import Promptable

ROOM = 1.25
"""A field is at least this much longer than what the prompts span."""

LARGEST_FIELD_PX = 16_384
"""Masks are made at level-0 resolution; this bounds their memory."""


@dataclass(frozen=True)
class PromptedObject:
    """An object and where it lies: ``mask`` has the shape of ``region``, in level-0 pixels."""

    mask: NDArray[np.bool_]
    region: Region
    score: float

    def in_image(self, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask ``(H, W)`` of the whole image."""
        whole = np.zeros(shape_yx, bool)
        whole[self.region.slices] = self.mask
        return whole


def segment_prompted(
    model: Promptable,
    image: NDArray[np.uint8] | Slide,
    prompts: Prompts,
    *,
    mpp: float | None = None,
) -> PromptedObject:
    """The object that points and a box ask for, in an image ``(H, W, 3)`` or a slide.

    A large image is not squeezed into the model: the part round the prompts is read, and what is
    round that part for a model that looks at it (WSI-SAM).

    Parameters
    ----------
    mpp
        Microns per pixel; overrides a slide's own.

    Raises
    ------
    BadPromptError
        A prompt lies outside the image, there is none, or they span too much.
    """
    slide = ArraySlide(image, mpp=mpp) if isinstance(image, np.ndarray) else image
    prompts.check(slide.shape_yx)
    mpp = mpp or slide.mpp
    region, shape_yx = field_round(
        prompts,
        slide.shape_yx,
        field_px=model.config.field_px,
        mpp=mpp,
        mpp_range=model.config.mpp_range,
    )
    embedding = encode_field(model, slide.read_resampled, slide.shape_yx, region, shape_yx, mpp=mpp)
    embedding = replace(embedding, shape_yx=region.shape_yx)  # prompts and mask in level-0 pixels
    answer = model.decode_prompts(embedding, prompts.shifted(-region.y, -region.x))
    return PromptedObject(answer.mask, region, answer.score)


def field_round(
    prompts: Prompts,
    shape_yx: tuple[int, int],
    *,
    field_px: int,
    mpp: float | None,
    mpp_range: tuple[float, float] | None,
) -> tuple[Region, tuple[int, int]]:
    """The part of an image to encode for these prompts, and the pixels to encode it at.

    ``field_px`` pixels each way, at the image's own pixel size or the nearest one the model is at
    home in; where the prompts span more than that, more of the image at a lower resolution.
    """
    corners = list(prompts.points_yx)
    if prompts.box is not None:
        corners += [prompts.box[:2], prompts.box[2:]]
    ys, xs = zip(*corners, strict=True)
    span = max(max(ys) - min(ys), max(xs) - min(xs))
    if span > LARGEST_FIELD_PX / ROOM:
        raise BadPromptError(
            f"The prompts span {span:.0f} pixels, and one object may span at most "
            f"{LARGEST_FIELD_PX / ROOM:.0f}. Work on a coarser copy of the image."
        )
    step = 1.0 if mpp is None or mpp_range is None else float(np.clip(mpp, *mpp_range)) / mpp
    side = max(1, round(max(field_px * step, ROOM * span)))
    height, width = (min(side, n) for n in shape_yx)
    y, x = (
        int(np.clip(round((min(v) + max(v) - n) / 2), 0, whole - n))
        for v, n, whole in zip((ys, xs), (height, width), shape_yx, strict=True)
    )
    step = max(step, max(height, width) / field_px)
    at_yx = (max(1, round(height / step)), max(1, round(width / step)))
    return Region(y, x, height, width), at_yx


def encode_at(
    model: Promptable,
    image: NDArray[np.uint8],
    *,
    mpp: float | None,
    at_mpp: float | None = None,
    name: str = "The image",
) -> ImageEmbedding:
    """Encode ``(H, W, 3)`` at another pixel size; prompts and masks stay in the image's pixels."""
    if at_mpp is None or at_mpp == mpp:
        return model.encode(image, mpp=mpp)
    if mpp is None:
        raise BadImageError(
            f"{name} has no known pixel size, so it cannot be worked on at {at_mpp:g} µm per "
            "pixel. Give its pixel size with --mpp, or leave out --at-mpp."
        )
    from PIL import Image

    height, width = (max(1, round(n * mpp / at_mpp)) for n in image.shape[:2])
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    embedding = model.encode(np.array(resized), mpp=at_mpp)
    return replace(embedding, shape_yx=(image.shape[0], image.shape[1]), mpp=mpp)
