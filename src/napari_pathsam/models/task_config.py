"""What a task-specific network is made of: U-Net, U-Net3+, its SAM-guided kin, Mask R-CNN."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.models.sam2_config import IMAGENET_MEAN, IMAGENET_STD

# Bounds keep a hostile model file from asking for a network that fills the memory.
Width = Annotated[int, Field(ge=2, le=256)]
Norm = Literal["none", "batch", "group"]
Share = Annotated[float, Field(ge=0, lt=1)]
Pixels = Annotated[int, Field(ge=2, le=4096)]
Zoom = Annotated[float, Field(ge=0.25, le=4)]


class UNetConfig(BaseModel):
    """The classic U-Net: ``width`` channels at full size, doubled at each of ``levels`` − 1 halves.

    ``norm``: after each 3×3 convolution; DTU's has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    width: Width = 64
    levels: Annotated[int, Field(ge=2, le=6)] = 5
    norm: Norm = "batch"


class TimmUNetConfig(BaseModel):
    """segmentation_models_pytorch's U-Net on a timm trunk, features at strides 2 to 32.

    Attributes
    ----------
    padding
        Of the trunk's convolutions: timm's usual, or as TensorFlow pads (``same``), for weights
        that come from there.
    frozen_norm
        Whether the trunk's batch norm keeps its statistics in training, as it must where they were
        folded into the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["timm-unet"] = "timm-unet"
    # A plain name: timm would also take "hf-hub:…" and ask the network.
    trunk: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "mobilenetv2_100"
    decoder_widths: tuple[Width, Width, Width, Width, Width] = (256, 128, 64, 32, 16)
    padding: Literal["usual", "same"] = "usual"
    frozen_norm: bool = False


class FusionConfig(BaseModel):
    """The X-gated fusion block: a gated squeeze-and-excitation, then cross-attention.

    Attributes
    ----------
    pool
        How SAM's embedding comes to the bottleneck's grid: by mean, or by MaxBlurPool as released.
    gate
        What is between the two 1×1 convolutions of the gate: GLU (paper) or ReLU (released).
    squeeze
        The gate narrows the channels that go in by this factor.
    attend_to
        Keys and values: SAM's tokens, the bottleneck's (released code), or the gated ones (paper).
        Only with ``sam`` can what SAM saw *where* reach the output.
    heads
        Of the attention.
    residual
        Whether attention is added to the gated bottleneck and layer-normed, or takes its place.
    level_gates
        Whether SAM gates the four finer levels too (the released "advanced" option).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: Literal["mean", "max-blur"] = "mean"
    gate: Literal["glu", "relu"] = "glu"
    squeeze: Annotated[int, Field(ge=1, le=64)] = 16
    attend_to: Literal["sam", "unet", "gated"] = "sam"
    heads: Annotated[int, Field(ge=1, le=16)] = 8
    residual: bool = True
    level_gates: bool = False


class UNet3PlusConfig(BaseModel):
    """U-Net3+ and eU-Net3+: every decoder level sees every level of the encoder.

    Attributes
    ----------
    width
        Channels at full size; doubled at each of four halves.
    gated
        Gated linear units in the encoder, as adaptive feature selection (eU-Net3+).
    blur_pool
        Blurred max pooling in the encoder (eU-Net3+).
    dropout
        Of whole channels of the bottleneck.
    deep_supervision
        Whether the bottleneck and all decoder levels are trained to segment, too.
    presence
        The classification-guided module: nothing is found where it says nothing is there.
    fusion
        How SAM joins in, where the model has a guide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet3plus"] = "unet3plus"
    width: Width = 64
    gated: bool = False
    blur_pool: bool = False
    dropout: Share = 0.0
    deep_supervision: bool = True
    presence: bool = False
    fusion: FusionConfig = FusionConfig()


class MaskRcnnConfig(BaseModel):
    """torchvision's Mask R-CNN with a ResNet and a feature pyramid.

    Attributes
    ----------
    trunk
        A ResNet of torchvision's.
    frozen_norm
        Whether batch norm is a fixed scale and shift, as when started from COCO.
    resize
        Shorter and longest side images are brought to (torchvision: 800 and 1333); None: the
        pixels as they are.
    anchors_px
        Side of the anchors of each pyramid level, at strides 4, 8, 16, 32 and 64.
    rois
        Regions of an image that its two heads learn from in a step; fewer are faster.
    score
        Least score of an object that counts.
    box_nms
        Boxes that overlap more (IoU) than this are one object.
    most
        Objects of one tile, the best ones.
    merge
        ``objects``: each pixel belongs to one object; ``union``: DTU's way, all masks as one
        picture, in which objects that touch are one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mask-rcnn"] = "mask-rcnn"
    trunk: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"
    frozen_norm: bool = True
    resize: tuple[Pixels, Pixels] | None = None
    anchors_px: tuple[Pixels, Pixels, Pixels, Pixels, Pixels] = (32, 64, 128, 256, 512)
    rois: Annotated[int, Field(ge=4, le=4096)] = 512
    score: Annotated[float, Field(ge=0, le=1)] = 0.5
    box_nms: Annotated[float, Field(ge=0, le=1)] = 0.5
    most: Annotated[int, Field(ge=1, le=2000)] = 300
    merge: Literal["objects", "union"] = "objects"


NetworkConfig = Annotated[
    UNetConfig | TimmUNetConfig | UNet3PlusConfig | MaskRcnnConfig, Field(discriminator="kind")
]
Colour = tuple[float, float, float]


class TaskConfig(BaseModel):
    """A network trained for one task, alone or guided by SAM.

    Attributes
    ----------
    network
        What it is made of.
    guide
        Catalogue name of the frozen promptable model whose image embedding guides it; None:
        without SAM. Nothing else needs to change.
    outputs
        ``foreground``: one logit a class, against a background of 0 (of one class: a sigmoid);
        ``all``: one for the background, too.
    gap_um
        Background between two objects that are no further apart is a channel of its own in
        training, the last one, and background in answers: so what nearly touches comes apart.
        None: it is background like any other.
    views
        Test-time augmentation: answers to so many of a tile's eight flips and turns are averaged.
    zooms
        And answers to a tile enlarged or reduced by these factors.
    pixel_mean, pixel_std
        Of pixels in 0 … 1.
    mpp, mpp_range
        Pixel size in µm of the image it wants, and between which it is at home.
    tile_px
        Longest side of what it sees at once.
    tissue, stain
        What it was made for, in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    network: NetworkConfig
    profile: Profile = "recommended"
    guide: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")] | None = None
    outputs: Literal["foreground", "all"] = "all"
    gap_um: Annotated[float, Field(gt=0, le=1000)] | None = None
    views: Literal[1, 2, 4, 8] = 1
    zooms: Annotated[tuple[Zoom, ...], Field(min_length=1, max_length=8)] = (1.0,)
    pixel_mean: Colour = IMAGENET_MEAN
    pixel_std: Colour = IMAGENET_STD
    mpp: Annotated[float, Field(gt=0, le=100)]
    mpp_range: tuple[float, float] | None = None
    tile_px: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 512
    tissue: str = ""
    stain: str = "H&E"

    @property
    def enlarge(self) -> float:
        """Network pixels per pixel of the image: they are seen as they are."""
        return 1.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.guide is not None and not isinstance(self.network, UNet3PlusConfig):
            raise ValueError(f"SAM guides a U-Net3+; a {self.network.kind} has no guide")
        if self.guide is not None and self.zooms != (1.0,):
            raise ValueError("SAM sees a tile once, at its own size: zooms is 1")
        if isinstance(self.network, MaskRcnnConfig):
            if self.outputs != "foreground":
                raise ValueError("Mask R-CNN finds objects: its outputs are the foreground")
            if self.views != 1 or self.zooms != (1.0,):
                raise ValueError(
                    "the objects of several views cannot be averaged: views and zooms are 1"
                )
            if self.gap_um is not None:
                raise ValueError("Mask R-CNN has objects apart already: gap_um is for class maps")
        return self

    def channels(self, n_classes: int) -> int:
        """Logits per pixel."""
        return n_classes + (self.outputs == "all") + (self.gap_um is not None)


def with_network(config: TaskConfig, **fields: Any) -> TaskConfig:
    """The configuration with these fields of its network replaced, and checked again."""
    network = config.network.model_dump() | fields
    return TaskConfig.model_validate(config.model_dump() | {"network": network})
