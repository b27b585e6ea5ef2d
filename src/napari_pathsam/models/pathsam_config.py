"""What a PathSam is made of: promptable model, pathology encoder, alignment, class prompts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.models.encoders import EncoderSpec
from napari_pathsam.models.kan import KanConfig

Profile = Literal["recommended", "paper", "repo"]
Part = Literal["head", "alignment", "decoder", "encoder", "network", "trunk"]
"""What can be trained: the class prompts with their KAN, the dimension alignment, the mask decoder,
SAM's image encoder; of a task-specific model its network, and the trunk that network stands on."""

Width = Annotated[int, Field(ge=1, le=1024)]


class PathSamConfig(BaseModel):
    """A SAM that knows classes. Variants of the papers, and their ablations, are values of this.

    Attributes
    ----------
    base
        Catalogue name of the promptable model whose image encoder and mask decoder are used.
    sam_encoder
        False leaves SAM's image encoder out: only the pathology encoder sees the image, through a
        ``fresh`` alignment, and the decoder sees no finer levels.
    encoder
        The pathology encoder beside it, or None ("fine-tuned SAM").
    alignment
        ``neck`` starts as SAM's own neck, with the pathology features added from zero; ``fresh``
        is SAM-Path's: concatenate ``levels`` of the trunk and the pathology features, 1×1
        convolution, layer norm, 3×3 convolution, layer norm.
    align_high_res
        Whether the alignment (``neck``) makes the two finer levels too, or SAM's frozen ones serve.
    high_res
        Whether the decoder sees the two finer levels.
    head, hidden, kan
        What turns a class token into the weights of its mask: a KAN or an MLP, with these hidden
        widths.
    tokens
        Class tokens start as SAM's own mask tokens, or from the normal distribution.
    mpp, mpp_range
        Pixel size in µm of the image it wants, and between which it is at home.
    enlarge
        Network pixels per pixel of that image.
    octaves
        At how many magnifications (full, half, …) classes are decoded; the logits are averaged.
    tissue, stain
        What it was made for, in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
    profile: Profile = "recommended"
    sam_encoder: bool = True
    encoder: EncoderSpec | None = None
    alignment: Literal["neck", "fresh"] = "neck"
    align_high_res: bool = False
    levels: tuple[Annotated[int, Field(ge=0, le=3)], ...] = (2, 3)
    high_res: bool = True
    head: Literal["kan", "mlp"] = "kan"
    hidden: Annotated[tuple[Width, ...], Field(max_length=6)] = (64, 64)
    kan: KanConfig = KanConfig()
    tokens: Literal["pretrained", "normal"] = "pretrained"
    mpp: Annotated[float, Field(gt=0, le=100)]
    mpp_range: tuple[float, float] | None = None
    enlarge: Annotated[float, Field(ge=0.25, le=8)] = 1.0
    octaves: Annotated[int, Field(ge=1, le=3)] = 1
    tissue: str = ""
    stain: str = "H&E"

    @model_validator(mode="after")
    def _sees_something(self) -> Self:
        if not self.sam_encoder and self.encoder is None:
            raise ValueError("without SAM's image encoder a pathology encoder is needed")
        if self.alignment == "fresh" and self.sam_encoder and not self.levels:
            raise ValueError("a fresh alignment reads at least one level of the trunk")
        return self


# The papers' networks as far as they say; systems differ from `recommended` only in these.
_PROFILES: dict[str, dict[str, Any]] = {
    "recommended": {},
    # Path-SAM2: three-layer KAN, alignment = a neck from scratch, tokens from scratch.
    "paper": {
        "alignment": "fresh",
        "levels": (2, 3),
        "hidden": (256, 256),
        "kan": KanConfig(grid=5, reach=(-1.0, 1.0), normalise=False),
        "tokens": "normal",
    },
    # The released code: last trunk level only, one KAN layer, no high-resolution features.
    "repo": {
        "alignment": "fresh",
        "levels": (3,),
        "high_res": False,
        "hidden": (),
        "kan": KanConfig(grid=5, reach=(-1.0, 1.0), normalise=False),
        "tokens": "normal",
    },
}


def profiled(profile: Profile, **fields: Any) -> PathSamConfig:
    """A configuration of one of the three profiles, with these fields set or replaced."""
    return PathSamConfig(**({"profile": profile} | _PROFILES[profile] | fields))
