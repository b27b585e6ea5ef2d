"""What a person decides about fine-tuning: where to start, classes, what is trained, how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.models.kan import KanConfig
from napari_pathsam.models.pathsam_config import Part, Width
from napari_pathsam.models.task_recipes import is_task

FineTunePreset = Literal["fast", "balanced", "thorough"]


class HoldOut(BaseModel):
    """What is not trained on, so that the score is earned.

    ``region``: whole strokes of each class; ``image``: whole images; ``layer``: what a labels layer
    of its own says; ``none``: nothing, and no score. ``share`` is the part of region and image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["region", "image", "layer", "none"] = "region"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class FineTuneConfig(BaseModel):
    """The numbers behind a preset.

    Attributes
    ----------
    parts
        What is trained: the head, then the alignment too, then the decoder too.
    epochs, steps
        At most so many epochs of so many optimiser steps; after each the held-out score is taken.
    batch
        Crops in a step.
    crop_px
        Side of a crop of the embedding, in network pixels.
    variants
        Ways in which each tile is seen: as it is, then turned, mirrored and in other colours. Each
        one is encoded once.
    patience
        Epochs without a better score after which training stops; None: never.
    lr, body_lr
        Learning rate of the head; that of alignment and decoder as a part of it.
    gentlest
        Where the start knows every class, the model is a mixture of it and what was learned
        (:meth:`learned`), of the latter at least this part; 1: nothing but the latter.
    ema
        Decay of the averaged weights, which are what is scored and kept.
    alpha, beta, gamma
        Of the loss: ``(1 − alpha) Dice + alpha focal + beta MSE(IoU)``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: tuple[Part, ...] = ("head", "alignment", "decoder")
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 8
    steps: Annotated[int, Field(ge=1, le=10_000)] = 10
    batch: Annotated[int, Field(ge=1, le=256)] = 4
    crop_px: Annotated[int, Field(ge=64, le=4096, multiple_of=64)] = 320
    variants: Annotated[int, Field(ge=1, le=64)] = 1
    patience: Annotated[int, Field(ge=1)] | None = None
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-3
    body_lr: Annotated[float, Field(gt=0, le=10)] = 0.3
    gentlest: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Annotated[int, Field(ge=0)] = 10
    clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.97
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.25
    beta: Annotated[float, Field(ge=0)] = 0.01
    gamma: Annotated[float, Field(ge=0)] = 2.0
    stain: Annotated[float, Field(ge=0, le=1)] = 0.1
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.parts not in (*TRAINED, WHOLE):
            raise ValueError(
                f"parts={self.parts}: head, head + alignment, or with the decoder too; of a "
                "task-specific network all of it"
            )
        return self

    def learned(self, dice: float) -> float:
        """The part of the way from a start that knows every class to the trained weights.

        ``dice`` is what the start may score on all that is painted (one standard error above what
        it does): the part is the square of twice what that lacks to 1, from :attr:`gentlest` to
        1. A few strokes make a head that is right forget more than they teach, and one that is
        wrong has little to keep (docs/results.md, "From a few strokes"). Mixing weights is of
        Wortsman et al., Robust Fine-Tuning of Zero-Shot Models, CVPR 2022.
        """
        return max(self.gentlest, min(1.0, 2 * (1 - dice)) ** 2)


TRAINED: tuple[tuple[Part, ...], ...] = (
    ("head",),
    ("head", "alignment"),
    ("head", "alignment", "decoder"),
)
"""What can be trained: each includes the ones before it."""
WHOLE: tuple[Part, ...] = ("network", "trunk")
"""What is trained of a task-specific network."""

_PRESETS: dict[FineTunePreset, dict[str, Any]] = {
    "fast": {"epochs": 6, "steps": 8, "batch": 4, "crop_px": 320, "lr": 3e-3},
    "balanced": {"epochs": 20, "steps": 20, "batch": 4, "variants": 8, "patience": 8, "ema": 0.99},
    "thorough": {
        "epochs": 60, "steps": 30, "batch": 8, "variants": 24, "patience": 20, "ema": 0.995,
    },
}  # fmt: skip
GENTLEST = 0.1
"""Of the presets: chosen on images of GlaS train that nobody painted on."""
# A network that is trained whole begins with less, so it sees more crops, turned and stained.
_OF_NETWORKS: dict[FineTunePreset, dict[str, Any]] = {
    "fast": {"epochs": 10, "crop_px": 192, "variants": 8},
    "balanced": {"epochs": 30, "crop_px": 256, "variants": 16, "patience": 12},
    "thorough": {"epochs": 80, "variants": 32, "patience": 25},
}


def preset_config(preset: FineTunePreset, **fields: Any) -> FineTuneConfig:
    """The numbers of a preset, with these fields replaced; ``lr`` is then taken as it is.

    ``parts`` say what the numbers are for: a network that is trained whole has its own.
    """
    whole = _OF_NETWORKS[preset] if fields.get("parts") == WHOLE else {}
    gentlest = {} if "lr" in fields else {"gentlest": GENTLEST}
    return FineTuneConfig(**(_PRESETS[preset] | gentlest | whole | fields))


def _config_for(settings: dict[str, Any]) -> FineTuneConfig:
    """How it is trained where nobody says: a network from new whole."""
    from_new = settings.get("start") is None and is_task(settings.get("base", ""))
    return preset_config("fast", **({"parts": WHOLE} if from_new else {}))


class FineTuneSettings(BaseModel):
    """Everything a person decides, but the labels.

    Attributes
    ----------
    name
        Of the model that comes out.
    start
        The head to start from (``pathsam-nano:glands``, a model file): its alignment, its decoder
        and the class prompts of classes of the same name. None: fresh ones on ``base``.
    base, encoder
        The promptable model under fresh class prompts, and the pathology encoder beside it; a head
        to start from brings its own. Or a task-specific network (``unet``), trained whole.
    fresh_prompts
        Class prompts from new even where ``start`` has some.
    classes
        The classes of the labels, by their ids there; background may be one of them.
    background_id
        The id that means background; None: none does.
    zero
        What an unpainted pixel means.
    kan, hidden
        Of the class prompts; where they differ from those of ``start``, prompts are fresh.
    config
        How; None given: the fast preset, for a network from new that of networks.
    mpp
        Pixel size to work at; None: that of ``start``, or for fresh prompts the images' own.
    threads
        CPU threads to compute with; part of what decides the last bit. None: as many as torch uses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)] = "my classes"
    start: str | None = None
    base: str = "pathsam-nano"
    encoder: str | None = None
    fresh_prompts: bool = False
    classes: ClassTable
    background_id: int | None = None
    zero: Literal["unlabelled", "background"] = "unlabelled"
    preset: FineTunePreset = "fast"
    config: FineTuneConfig = Field(default_factory=_config_for)
    hold_out: HoldOut = HoldOut()
    kan: KanConfig | None = None
    hidden: Annotated[tuple[Width, ...], Field(max_length=6)] | None = None
    mpp: Annotated[float, Field(gt=0, le=100)] | None = None
    device: str = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    @property
    def model_classes(self) -> ClassTable:
        """The classes of the model: background is its first channel, and never listed."""
        return ClassTable(classes=tuple(c for c in self.classes if c.id != self.background_id))

    def with_preset(self, preset: FineTunePreset, **fields: Any) -> FineTuneSettings:
        """The settings with a preset's numbers; ``fields`` replace some of them.

        What is trained whole still is.
        """
        if self.config.parts == WHOLE:
            fields = {"parts": WHOLE} | fields
        return self.model_copy(update={"preset": preset, "config": preset_config(preset, **fields)})
