"""One image: the object that prompts ask for, at the resolution the model is at home in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import ImageEmbedding
    from napari_pathsam.models.sam2 import Sam2

ROOM = 1.25
"""A field is at least this much longer than what the prompts span."""


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
    model: Sam2, image: NDArray[np.uint8], prompts: Prompts, *, mpp: float | None = None
) -> PromptedObject:
    """The object that points and a box in an image ``(H, W, 3)`` ask for.

    A large image is not squeezed into the model: the part round the prompts is read.

    Raises
    ------
    BadPromptError
        A prompt lies outside the image, or there is none.
    """
    shape_yx = (image.shape[0], image.shape[1])
    prompts.check(shape_yx)
    region, at_mpp = field_round(
        prompts, shape_yx, field_px=model.config.field_px, mpp=mpp, mpp_range=model.config.mpp_range
    )
    embedding = encode_at(model, image[region.slices], mpp=mpp, at_mpp=at_mpp)
    answer = model.decode_prompts(embedding, prompts.shifted(-region.y, -region.x))
    return PromptedObject(answer.mask, region, answer.score)


def field_round(
    prompts: Prompts,
    shape_yx: tuple[int, int],
    *,
    field_px: int,
    mpp: float | None,
    mpp_range: tuple[float, float] | None,
) -> tuple[Region, float | None]:
    """The part of an image to encode for these prompts, and at which pixel size (None: its own).

    ``field_px`` pixels each way, at the image's own pixel size or at the nearest one the model is
    at home in, and larger where the prompts span more.
    """
    ys, xs = zip(*_corners(prompts), strict=True)
    span = max(max(ys) - min(ys), max(xs) - min(xs))
    at_mpp = mpp if mpp is None or mpp_range is None else float(np.clip(mpp, *mpp_range))
    side = field_px * (at_mpp / mpp if mpp and at_mpp else 1.0)
    side = max(1, round(max(side, ROOM * span)))
    height, width = (min(side, n) for n in shape_yx)
    y, x = (
        int(np.clip(round((min(v) + max(v) - n) / 2), 0, whole - n))
        for v, n, whole in zip((ys, xs), (height, width), shape_yx, strict=True)
    )
    return Region(y, x, height, width), at_mpp


def _corners(prompts: Prompts) -> list[tuple[float, float]]:
    box = () if prompts.box is None else (prompts.box[:2], prompts.box[2:])
    return [*prompts.points_yx, *box]


def encode_at(
    model: Sam2,
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
