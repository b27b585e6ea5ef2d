"""What a promptable model is made of: SAM 2.1 in four sizes, MedSAM2, SAM 1 and our nano."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Bounds keep a hostile model file from asking for a network that fills the memory.
Blocks = Annotated[int, Field(ge=1, le=64)]
Window = Annotated[int, Field(ge=1, le=64)]
Share = Annotated[float, Field(ge=0, le=1)]

TRUSTED_SAM1, TRUSTED_SAM2 = (0.88, 0.95), (0.8, 0.95)
"""Least predicted IoU and stability of a mask, as each one's own generator has them."""


class HieraConfig(BaseModel):
    """Meta's Hiera trunk; the fields are upstream's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hiera"] = "hiera"
    embed_dim: Annotated[int, Field(ge=8, le=256)] = 96
    num_heads: Annotated[int, Field(ge=1, le=16)] = 1
    stages: tuple[Blocks, Blocks, Blocks, Blocks] = (1, 2, 7, 2)
    global_att_blocks: tuple[int, ...] = (5, 7, 9)
    window_spec: tuple[Window, Window, Window, Window] = (8, 4, 14, 7)
    window_pos_embed_bkg_spatial_size: tuple[Window, Window] = (7, 7)


class TimmConfig(BaseModel):
    """A trunk from timm with features at strides 4, 8, 16 and 32, such as a MobileNet or TinyViT.

    ``pad_type`` is how a MobileNet pads; "" for networks that do not ask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["timm"] = "timm"
    # A plain name: timm would also take "hf-hub:…" and ask the network.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "mobilenetv2_100"
    pad_type: str = "same"


class VitConfig(BaseModel):
    """SAM 1's plain ViT trunk: one level of features at stride 16."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vit"] = "vit"
    embed_dim: Annotated[int, Field(ge=16, le=1280)] = 768
    depth: Annotated[int, Field(ge=1, le=32)] = 12
    num_heads: Annotated[int, Field(ge=1, le=16)] = 12
    window: Window = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)


class Sam2Config(BaseModel):
    """What a SAM 2, or with a :class:`VitConfig` trunk a SAM 1, is made of.

    ``field_px`` is the side of the canvas in which positions are encoded and the longest side an
    image is encoded at. With ``fixed_canvas`` every image is stretched to it (as SAM 2 does), or,
    with ``pad``, fitted into it and the rest is zeros (SAM 1); otherwise an image keeps its own
    size, rounded to the trunk's stride, which costs less and keeps the pixel size. With
    ``prompt_map`` clicks and boxes are also drawn into the mask prompt
    (:mod:`napari_pathsam.models.prompt_map`). The image is encoded in so many ``octaves``: at full
    size, at half, at a quarter … (:mod:`napari_pathsam.models.octaves`). With ``one_piece`` answers
    are tidied (:mod:`napari_pathsam.models.tidy`). ``mpp_range`` is where the model is at home,
    None where nobody measured. ``trust`` says what of a grid of points is kept: the least predicted
    IoU and stability; None: :attr:`trusted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    trunk: HieraConfig | TimmConfig | VitConfig = HieraConfig()
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=16)] = 256
    mlp_dim: Annotated[int, Field(ge=1, le=8192)] = 2048
    iou_hidden_dim: Annotated[int, Field(ge=1, le=4096)] = 256
    field_px: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 1024
    fixed_canvas: bool = True
    pad: bool = False
    smallest_px: Annotated[int, Field(ge=1, le=4096)] = 1
    top_down_levels: tuple[int, ...] = (2, 3)
    object_score: bool = True
    position_scale: float = 1.0
    prompt_map: bool = False
    octaves: Annotated[int, Field(ge=1, le=4)] = 1
    one_piece: bool = False
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    mpp_range: tuple[float, float] | None = None
    trust: tuple[Share, Share] | None = None

    @property
    def trusted(self) -> tuple[float, float]:
        """``trust``; without it what is known of a model of this name, or SAM's and SAM 2's own."""
        known = SAM2_CONFIGS.get(self.name, self)
        return self.trust or known.trust or (TRUSTED_SAM1 if self.is_sam1 else TRUSTED_SAM2)

    @property
    def is_sam1(self) -> bool:
        """Whether the decoder is SAM 1's: no finer levels, IoU as it is, no choice by stability."""
        return isinstance(self.trunk, VitConfig)


SAM2_CONFIGS: dict[str, Sam2Config] = {
    config.name: config
    for config in (
        Sam2Config(name="sam2.1-tiny"),
        Sam2Config(
            name="sam2.1-small",
            trunk=HieraConfig(stages=(1, 2, 11, 2), global_att_blocks=(7, 10, 13)),
        ),
        Sam2Config(
            name="sam2.1-base-plus",
            trunk=HieraConfig(
                embed_dim=112,
                num_heads=2,
                stages=(2, 3, 16, 3),
                global_att_blocks=(12, 16, 20),
                window_pos_embed_bkg_spatial_size=(14, 14),
            ),
        ),
        Sam2Config(
            name="sam2.1-large",
            trunk=HieraConfig(
                embed_dim=144,
                num_heads=2,
                stages=(2, 6, 36, 4),
                global_att_blocks=(23, 33, 43),
                window_spec=(8, 4, 16, 8),
            ),
        ),
        # Fine-tuned from tiny on CT, MRI, PET, ultrasound and endoscopy, at 512 pixels: Ma et al.,
        # MedSAM2 (2025), arXiv 2504.03600.
        Sam2Config(name="medsam2", field_px=512),
        Sam2Config(name="sam-vit-b", trunk=VitConfig(), pad=True, object_score=False),
        Sam2Config(
            name="pathsam-nano",
            trunk=TimmConfig(),
            width=128,
            mlp_dim=512,
            iou_hidden_dim=128,
            fixed_canvas=False,
            smallest_px=768,
            top_down_levels=(0, 1, 2, 3),
            object_score=False,
            position_scale=4.0,
            prompt_map=True,
            octaves=3,
            one_piece=True,
            pixel_mean=(0.5, 0.5, 0.5),
            pixel_std=(0.5, 0.5, 0.5),
            mpp_range=(0.2, 1.8),
            # Best object F1 on 6 images of GlaS train and 4 of TNBC train together.
            trust=(0.7, 0.85),
        ),
    )
}
