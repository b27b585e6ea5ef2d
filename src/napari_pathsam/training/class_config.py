"""TrainConfig: how a model is taught its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.models.pathsam_config import Part, Profile
from napari_pathsam.training.augment import AugmentConfig
from napari_pathsam.training.losses import Overlap

Preset = Literal["quick", "balanced", "best"]


class ClassLossConfig(BaseModel):
    """``Σ_k w_k [(1 − alpha) Dice + alpha focal + beta MSE(IoU)]``, a sum or a mean over classes.

    ``dice_over``: Dice of each image, then their mean (as the papers), or of the whole batch, which
    is steadier where most images lack most classes. ``alpha`` 1 and ``gamma`` 0 are binary
    cross-entropy. ``overlap_as`` and ``each_alone`` say what takes the place of Dice
    (:func:`~napari_pathsam.training.losses.class_loss`); ``weights`` are those of the channels,
    background first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.25
    beta: Annotated[float, Field(ge=0)] = 0.01
    gamma: Annotated[float, Field(ge=0)] = 2.0
    over_classes: Literal["sum", "mean"] = "mean"
    dice_over: Literal["image", "batch"] = "batch"
    overlap_as: Overlap = "dice"
    each_alone: bool = False
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None


class TrainConfig(BaseModel):
    """One training run.

    Attributes
    ----------
    parts
        What is trained; the rest stays as it is.
    patch_px
        Side of a training patch, in pixels of the image at the model's pixel size.
    variants
        Augmented copies of each image; their embeddings are made once. None: a new one each time,
        and nothing is kept.
    scale
        Between which factors patches are enlarged.
    balance
        How much more often images of rare classes are shown
        (:func:`~napari_pathsam.training.class_order.shares_of`): 0 all equally often, 1 all
        classes equally often.
    mosaic
        Share of patches put together from four images.
    stride
        The loss is measured on every such network pixel.
    patience
        Validations without a better score after which training stops; None: never.
    ema
        Decay of the averaged weights, which are what is kept; None: no averaging.
    mixed_precision
        In bfloat16, where the device has instructions for it.
    optimizer, momentum
        AdamW, Adam with weight decay in the gradient, or SGD with this momentum.
    schedule
        The rate after the warm-up: down a cosine to nothing, or as it is.
    drawn_as
        How patches are cut and changed: our way (``augment``, ``scale``), DTU's or that of
        eU-Net3+ (:mod:`~napari_pathsam.training.task_augment`).
    data_seed
        Of the augmented copies, where runs with several seeds are to share their embeddings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Part, ...] = ("head", "alignment", "decoder")
    epochs: Annotated[int, Field(ge=1)] = 30
    batch: Annotated[int, Field(ge=1)] = 8
    patch_px: Annotated[int, Field(ge=32)] = 224
    variants: Annotated[int, Field(ge=1)] | None = 8
    scale: tuple[float, float] = (0.8, 1.25)
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0
    mosaic: Annotated[float, Field(ge=0, le=1)] = 0.0
    stride: Literal[1, 2, 4] = 2
    augment: AugmentConfig = AugmentConfig()
    loss: ClassLossConfig = ClassLossConfig()
    lr: Annotated[float, Field(gt=0)] = 1e-3
    encoder_lr: Annotated[float, Field(gt=0)] = 1e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Annotated[int, Field(ge=0)] = 50
    clip: Annotated[float, Field(gt=0)] = 1.0
    kan_l1: Annotated[float, Field(ge=0)] = 0.0
    kan_entropy: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] | None = 0.995
    mixed_precision: bool = False
    validate_every: Annotated[int, Field(ge=1)] = 1
    patience: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["half", "single"] = "half"
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["cosine", "constant"] = "cosine"
    drawn_as: Literal["ours", "dtu", "eunet3plus"] = "ours"
    seed: int = 0
    data_seed: int | None = None


_PROFILES: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "loss": ClassLossConfig(alpha=0.125, beta=0.01, over_classes="sum", dice_over="image"),
        "lr": 1e-5,
        "weight_decay": 1e-2,
        "ema": None,
    },
    "repo": {
        "loss": ClassLossConfig(alpha=0.125, beta=0.0, over_classes="mean", dice_over="image"),
        "lr": 1e-5,
        "weight_decay": 1e-2,
        "ema": None,
    },
}


# How long and how thoroughly: named settings a person chooses between.
_PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"parts": ("head",), "epochs": 10, "variants": 2, "stride": 4, "warmup": 10},
    "balanced": {"epochs": 30, "variants": 8, "patience": 10},
    "best": {"epochs": 80, "variants": 24, "patience": 20},
}
PRESETS: dict[str, TrainConfig] = {name: TrainConfig(**found) for name, found in _PRESETS.items()}
"""``quick``: the head alone, in seconds to minutes; ``balanced``: alignment and decoder too, each
image in 8 variants; ``best``: in 24, for longer."""


def train_profile(profile: Profile, preset: Preset | None = None, **fields: Any) -> TrainConfig:
    """The training settings of a profile and a preset, with these fields set or replaced."""
    settings = _PROFILES[profile] | ({} if preset is None else _PRESETS[preset]) | fields
    if isinstance(given := fields.get("loss"), Mapping):  # the rest of it is the profile's
        loss = _PROFILES[profile].get("loss", ClassLossConfig())
        settings["loss"] = {**loss.model_dump(), **given}
    return TrainConfig(**settings)
