"""What a WSI-SAM is made of: the paper's network, the released code's, ours, and ablations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.models.pathsam_config import Profile

Aggregate = Literal["mean", "max", "concat", "sum"]


class WsiSamConfig(BaseModel):
    """A frozen promptable model that looks twice: at a field, and at the field in its surroundings.

    Attributes
    ----------
    base
        Catalogue name of the promptable model; it is never changed. SAM 2.1, SAM 1, `pathsam-nano`,
        or an imported one, for example with a TinyViT of timm's for a trunk.
    context
        False is the ablation: the field alone, everything else the same.
    factor
        How many times as wide the surroundings are, in as many pixels.
    aggregate, aggregate_at
        How the tokens of both resolutions become one (``concat``: side by side, then a linear
        layer), and where: ``token``, as the decoder gives them (the paper: "at the intermediate
        layer", averaged), or ``weights``, after each token's hypernetwork (the released code, which
        adds them up).
    carry
        Whether the maps of the surroundings, cut to the field and enlarged, join those of the
        field. The paper's network has only the aggregated token between the two resolutions:
        32 numbers that say nothing of *where*.
    add_sam
        The promptable model's own logits are added to the fused ones ``always``, only at
        ``inference`` (the released code), or ``never``.
    from_zero
        The fused maps start at zero and the tokens as SAM's own mask token, so that (with
        ``add_sam="always"``) training starts from SAM's answer, but for what one more token among
        SAM's changes. Otherwise all starts at random.
    early_level
        Which of the trunk's levels, finest first, is the early feature: 0 is stride 4, 2 is stride
        16 (the paper's: TinyViT's 160 channels). SAM 1 has one level, its last.
    enlarge
        Network pixels per pixel of the field, where the base takes images of any size.
    field_px
        Longest side of a field, in its own pixels.
    mpp_range
        Pixel sizes in µm of a field at which it is at home; None: nobody measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
    profile: Profile = "recommended"
    context: bool = True
    factor: Annotated[float, Field(gt=1, le=32)] = 2.0
    aggregate: Aggregate = "mean"
    aggregate_at: Literal["token", "weights"] = "token"
    carry: bool = True
    add_sam: Literal["always", "inference", "never"] = "always"
    from_zero: bool = True
    early_level: Annotated[int, Field(ge=0, le=3)] = 0
    enlarge: Annotated[float, Field(ge=0.25, le=8)] = 1.0
    field_px: Annotated[int, Field(ge=32, le=4096)] = 1024
    mpp_range: tuple[float, float] | None = None
    tissue: str = ""
    stain: str = "H&E"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.from_zero and self.add_sam == "never":
            raise ValueError("maps that start at zero are added to SAM's answer: add_sam is never")
        return self


# Where systems differ from `recommended`. Both papers' networks have only the token in common.
_PROFILES: dict[str, dict[str, Any]] = {
    "recommended": {},
    # Liu et al. 2024: updated tokens averaged before the hypernetworks.
    "paper": {"carry": False, "add_sam": "inference", "from_zero": False, "early_level": 2},
    # The released code adds up what the hypernetworks make of the tokens.
    "repo": {
        "carry": False,
        "add_sam": "inference",
        "from_zero": False,
        "early_level": 2,
        "aggregate": "sum",
        "aggregate_at": "weights",
    },
}


def wsi_profiled(profile: Profile, **fields: Any) -> WsiSamConfig:
    """A configuration of one of the three profiles, with these fields set or replaced.

    Raises ValueError (pydantic's) where fields are wrong or do not go together.
    """
    return WsiSamConfig(**({"profile": profile} | _PROFILES[profile] | fields))
