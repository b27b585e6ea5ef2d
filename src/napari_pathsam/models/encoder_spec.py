"""What a pathology encoder is, as a value: the network, its pixels, its weights, its terms."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.models.sam2_config import IMAGENET_MEAN, IMAGENET_STD
from napari_pathsam.models.sources import Source

GUIDE = "https://github.com/napari-pathsam/napari-pathsam/blob/main/docs/training.md"
"""Where a specification is explained, with an example."""
Unit = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]
Prefix = Annotated[str, Field(min_length=1, max_length=100)]


class VitArgs(BaseModel):
    """How a vision transformer differs from timm's network of that name; None: as timm has it.

    ``img_size`` is the side, in pixels, of the image whose tokens have stored position embeddings;
    other sizes are interpolated in the forward pass. Bounds keep a hostile file from asking for a
    network that fills the memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    img_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    patch_size: Annotated[int, Field(ge=4, le=64)] | None = None
    embed_dim: Annotated[int, Field(ge=16, le=2048)] | None = None
    depth: Annotated[int, Field(ge=1, le=48)] | None = None
    num_heads: Annotated[int, Field(ge=1, le=32)] | None = None
    mlp_ratio: Annotated[float, Field(ge=0.5, le=8)] | None = None
    mlp: Literal["mlp", "swiglu"] | None = None
    act: Literal["gelu", "silu"] | None = None
    init_values: Annotated[float, Field(gt=0, le=1)] | None = None
    reg_tokens: Annotated[int, Field(ge=0, le=16)] | None = None
    no_embed_class: bool | None = None


class Layout(BaseModel):
    """How a published state dict becomes timm's: nothing is dropped that is not named here.

    The table is looked up under ``key``, prefixes in ``strip`` are taken off in their order, names
    that start with one in ``left_out`` (a training head, a mask token) are not part of the network.
    ``names`` says whose names are left then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Literal["timm", "transformers", "dinov2"] = "timm"
    key: Annotated[str, Field(max_length=100)] | None = None
    strip: tuple[Prefix, ...] = ()
    left_out: tuple[Prefix, ...] = ()


class EncoderSpec(BaseModel):
    """What a pathology encoder is made of, what it expects, and on which terms one may use it.

    Attributes
    ----------
    timm
        A network of timm's own by its plain name (never ``hf-hub:…``, which asks the network).
    vit
        Its changes; None for a timm network that is no vision transformer.
    token_px
        Side of one token, in the encoder's pixels: the stride of its features.
    prefix_tokens
        Class and register tokens before the image's.
    mean, std
        Of each channel, R, G, B, in 0…1.
    window_px
        Side of the square the encoder is given at a time, in its own pixels; None: the whole
        field at once.
    mpp
        Microns per pixel it was trained at, where that is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)]
    title: str = ""
    timm: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    vit: VitArgs | None = VitArgs()
    token_px: Annotated[int, Field(ge=4, le=64)]
    prefix_tokens: Annotated[int, Field(ge=0, le=17)] = 1
    embed_dim: Annotated[int, Field(ge=8, le=4096)]
    mean: tuple[Unit, Unit, Unit] = IMAGENET_MEAN
    std: tuple[Spread, Spread, Spread] = IMAGENET_STD
    window_px: Annotated[int, Field(ge=16, le=2048)] | None = None
    mpp: Annotated[float, Field(gt=0, le=100)] | None = None
    licence: str
    licence_url: str = ""
    gated: bool = False
    weights: Source
    layout: Layout = Layout()

    @model_validator(mode="after")
    def _windows_of_whole_tokens(self) -> Self:
        if self.window_px is not None and self.window_px % self.token_px:
            raise ValueError(
                f"window_px={self.window_px} is no whole number of tokens of {self.token_px} px"
            )
        return self
