"""A network trained for one task, as a model that knows classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.pathsam import ClassLogits, part_of
from napari_pathsam.models.pathsam_config import Part
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import (
    MaskRcnnConfig,
    TaskConfig,
    TimmUNetConfig,
    UNet3PlusConfig,
    UNetConfig,
)
from napari_pathsam.models.unet import TimmUNet, UNet
from napari_pathsam.models.unet3plus import UNet3Plus

if TYPE_CHECKING:
    from napari_pathsam.models.mask_rcnn import FoundObjects

STRIDE = 32
"""Images are filled up to multiples of it."""
VIEWS: dict[int, tuple[tuple[int, bool], ...]] = {
    1: ((0, False),),
    2: ((0, False), (0, True)),
    4: ((0, False), (0, True), (2, False), (2, True)),
    8: tuple((turn, mirrored) for turn in range(4) for mirrored in (False, True)),
}
"""Quarter turns, and whether the image is mirrored first, by how many there are."""


def build_network(config: TaskConfig, n_classes: int, guide: Sam2 | None = None) -> nn.Module:
    """The network a configuration describes, with random weights."""
    network, channels = config.network, config.channels(n_classes)
    if isinstance(network, UNetConfig):
        return UNet(network, channels)
    if isinstance(network, TimmUNetConfig):
        return TimmUNet(network, channels)
    if isinstance(network, UNet3PlusConfig):
        return UNet3Plus(network, channels, None if guide is None else guide.config.width)
    from napari_pathsam.models.mask_rcnn import MaskRcnn

    return MaskRcnn(network, n_classes)


class TaskModel(nn.Module):
    """A task-specific network, with a frozen SAM beside it where the configuration says so.

    Its image embedding is what no training changes: the pixels (``trunk``), and SAM's embedding of
    them. So SAM sees an image once, however often the network is asked or trained.

    Parameters
    ----------
    config
        What it is made of.
    classes
        The classes; background is one more, and the first.
    guide
        The promptable model ``config.guide`` names; never changed.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: TaskConfig, classes: ClassTable, guide: Sam2 | None = None) -> None:
        super().__init__()
        if (config.guide is None) != (guide is None):
            raise BadWeightsError(
                f"{config.name} is made {'without' if config.guide is None else 'with'} SAM, and "
                f"{'one' if guide is not None else 'none'} was given."
            )
        self.config, self.classes = config, classes
        self.network = build_network(config, len(classes), guide)
        if guide is not None:
            self.base = guide
        mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
        self.register_buffer("pixel_mean", mean[:, None, None], persistent=False)
        self.register_buffer("pixel_std", std[:, None, None], persistent=False)
        self.train_only(())

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def device(self) -> torch.device:
        return self.get_buffer("pixel_mean").device

    @property
    def guide(self) -> Sam2 | None:
        """The SAM beside it."""
        found = self._modules.get("base")
        return found if isinstance(found, Sam2) else None

    @property
    def tile_px(self) -> int:
        """Longest side of a field, in pixels of the image at ``config.mpp``."""
        return self.config.tile_px

    @property
    def cell_px(self) -> int:
        """Network pixels per cell of the logits."""
        return 1

    @property
    def square(self) -> bool:
        """Whether it wants whole square tiles."""
        return False

    @property
    def octaves(self) -> int:
        """Magnifications in an embedding."""
        return 1

    @property
    def embedding_name(self) -> str:
        """Names what is in an embedding: models that share it understand each other's."""
        return "pixels" if self.guide is None else f"pixels+{self.guide.name}"

    @property
    def finds_objects(self) -> bool:
        """Whether it knows objects one by one (:meth:`find_objects`)."""
        network = self.config.network
        return isinstance(network, MaskRcnnConfig) and network.merge == "objects"

    # --- training -----------------------------------------------------------------------------

    def train_only(self, parts: Sequence[Part]) -> None:
        """Make these parts trainable and freeze the rest."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(part_of(name) in parts)

    def train(self, mode: bool = True) -> TaskModel:
        """SAM stays as it is, and so does the batch norm of a trunk that is not trained."""
        super().train(mode)
        trunk = self.network._modules.get("trunk")
        for frozen in (self.guide, trunk):
            if frozen is not None and not any(p.requires_grad for p in frozen.parameters()):
                frozen.eval()
        return self

    def network_px(self, patch_px: int) -> int:
        """Network pixels of a patch's side."""
        return min(self.tile_px, max(STRIDE, round(patch_px / STRIDE) * STRIDE))

    # --- images -------------------------------------------------------------------------------

    def input_yx(self, shape_yx: tuple[int, int]) -> tuple[int, int]:
        """Network pixels for an image of this shape: filled up to whole strides."""
        height, width = (-(-n // STRIDE) * STRIDE for n in shape_yx)
        return (height, width)

    @torch.no_grad()
    def encode(self, image: NDArray[np.uint8], *, mpp: float | None = None) -> ImageEmbedding:
        """``(H, W, 3)`` uint8, whose pixels are ``config.mpp`` µm, and what SAM sees in it."""
        shape_yx = (image.shape[0], image.shape[1])
        after = [(0, have - n) for n, have in zip(shape_yx, self.input_yx(shape_yx), strict=True)]
        filled = np.pad(image, [*after, (0, 0)], mode="reflect")
        pixels = torch.from_numpy(filled).to(self.device).permute(2, 0, 1)[None].float() / 255
        return replace(self.encode_batch(pixels), shape_yx=shape_yx, mpp=mpp)

    def encode_batch(self, pixels: Tensor) -> ImageEmbedding:
        """``(B, 3, h, w)`` in 0 … 1, in whole strides → one embedding of B images."""
        size = (pixels.shape[-2], pixels.shape[-1])
        seen = pixels.new_empty(len(pixels), 0, size[0] // 16, size[1] // 16)
        if self.guide is not None:
            with torch.no_grad():
                seen = _embedded(self.guide, pixels)
        return ImageEmbedding(
            image_embed=seen,
            high_res=(),
            trunk=(pixels * 255,),  # whole numbers survive being kept in half precision
            shape_yx=size,
            input_yx=size,
            model=self.embedding_name,
            mpp=self.config.mpp,
        )

    def seen(self, embedding: ImageEmbedding) -> tuple[Tensor, ...]:
        """What the network is given: normalised pixels, and SAM's embedding where there is one."""
        pixels = (embedding.trunk[0] / 255 - self.pixel_mean) / self.pixel_std
        return (pixels,) if self.guide is None else (pixels, embedding.image_embed)

    # --- classes ------------------------------------------------------------------------------

    def outputs(self, embedding: ImageEmbedding) -> tuple[list[Tensor], Tensor | None]:
        """Class logits ``(B, K + 1, h, w)``, and a channel of gaps if it has one; differentiable.

        In training with deep supervision there are several, finest first. Beside them the
        ``(B, 2)`` logits of the classification-guided module, where the network has one.
        """
        seen, there = self.seen(embedding), None
        if isinstance(self.network, UNet3Plus):
            found, there = self.network.with_presence(*seen)
        else:
            found = self.network(*seen)
        found = [self._with_background(one) for one in found]
        if there is not None and not self.training:
            nothing = (there[:, 0] > there[:, 1])[:, None, None, None]
            found = [torch.where(nothing, _background_like(one), one) for one in found]
        return found, there

    def _with_background(self, logits: Tensor) -> Tensor:
        if self.config.outputs == "all":
            return logits
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)

    def without_gaps(self, logits: Tensor) -> Tensor:
        """``(B, K + 1, h, w)`` of :meth:`outputs`: gaps between objects are background."""
        if self.config.gap_um is None:
            return logits
        background = torch.logaddexp(logits[:, 0], logits[:, -1])
        return torch.cat([background[:, None], logits[:, 1:-1]], dim=1)

    @torch.inference_mode()
    def decode_classes(self, embedding: ImageEmbedding, *, views: int | None = None) -> ClassLogits:
        """One mask per class from an embedding; over ``views`` (``config.views``) and its zooms."""
        self._check(embedding)
        answers = []
        for zoom in self.config.zooms:
            zoomed = embedding if zoom == 1 else _changed(embedding, partial(_zoomed, zoom=zoom))
            for turn, mirrored in VIEWS[views or self.config.views]:
                seen = _changed(zoomed, partial(_viewed, turn=turn, mirrored=mirrored))
                finest = self.without_gaps(self.outputs(seen)[0][0]).float()
                finest = _unviewed(finest, turn=turn, mirrored=mirrored)
                answers.append(_resized(finest, embedding.input_yx)[0])
        height, width = embedding.shape_yx
        logits = torch.stack(answers).mean(0)[:, :height, :width]
        guess = logits.new_full((len(logits),), torch.nan)  # a network does not judge itself
        return ClassLogits(logits, guess, embedding.shape_yx, self.classes)

    @torch.inference_mode()
    def find_objects(self, embedding: ImageEmbedding) -> FoundObjects:
        """The objects of one image, of a model that :attr:`finds_objects`."""
        self._check(embedding)
        network: Any = self.network
        found: FoundObjects = network.find(*self.seen(embedding))[0]
        height, width = embedding.shape_yx
        return replace(found, masks=found.masks[:, :height, :width])

    def _check(self, embedding: ImageEmbedding) -> None:
        if embedding.model != self.embedding_name:
            raise BadWeightsError(
                f"This embedding was made by {embedding.model}; {self.name} reads those of "
                f"{self.embedding_name}. Encode the image with the model that decodes it."
            )


def _embedded(guide: Sam2, pixels: Tensor) -> Tensor:
    """SAM's embedding ``(B, C, h', w')`` of images ``(B, 3, h, w)`` in 0 … 1."""
    size = (pixels.shape[-2], pixels.shape[-1])
    config = guide.config
    if config.fixed_canvas:
        size = guide.fitted_yx(size)
        pixels = functional.interpolate(
            pixels, size, mode="bilinear", align_corners=False, antialias=True
        )
    pixels = guide.normalise(pixels)
    if config.pad:
        below, right = (config.field_px - n for n in size)
        pixels = functional.pad(pixels, (0, right, 0, below))
    found = guide.encode_pixels(pixels)[0]
    return found[..., : -(-size[0] // 16), : -(-size[1] // 16)]  # without what was padded


def _background_like(logits: Tensor) -> Tensor:
    """Logits by which everything is background."""
    nothing = torch.full_like(logits, -16.0)
    nothing[:, 0] = 16.0
    return nothing


def _changed(embedding: ImageEmbedding, change: Callable[[Tensor], Tensor]) -> ImageEmbedding:
    return replace(
        embedding,
        image_embed=change(embedding.image_embed),
        trunk=tuple(change(t) for t in embedding.trunk),
    )


def _zoomed(x: Tensor, *, zoom: float) -> Tensor:
    """Pixels ``(B, 3, h, w)`` enlarged or reduced, to whole strides; nothing stays nothing."""
    if not x.shape[1]:
        return x
    return _resized(x, tuple(max(1, round(n * zoom / STRIDE)) * STRIDE for n in x.shape[-2:]))


def _resized(x: Tensor, size_yx: tuple[int, ...]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size_yx):
        return x
    return functional.interpolate(x, size_yx, mode="bilinear", align_corners=False, antialias=True)


def _viewed(x: Tensor, *, turn: int, mirrored: bool) -> Tensor:
    return torch.rot90(x.flip(-1) if mirrored else x, turn, (-2, -1))


def _unviewed(x: Tensor, *, turn: int, mirrored: bool) -> Tensor:
    back = torch.rot90(x, -turn, (-2, -1))
    return back.flip(-1) if mirrored else back
