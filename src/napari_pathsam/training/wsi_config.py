"""What a WSI-SAM is trained on, and how: the paper's settings, the released code's, ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_pathsam.datasets.base import LabelKind
from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.training.augment import AugmentConfig

PromptKind = Literal["box", "point", "mask"]
Share = Annotated[float, Field(ge=0, le=1)]


class WsiSource(BaseModel):
    """Where fields are cut from: images larger than the field, or slides; exactly one of three.

    Attributes
    ----------
    dataset, target, split
        A data set by name. One of slides (``catch``) gives fields anywhere on its outlined patches,
        in the slide's own surroundings.
    images, labels
        Two folders, paired by file name.
    slides, pyramids
        A folder of slides, and one of label pyramids (``NAME.zarr``, NGFF 0.5) paired by name;
        ``labels_name`` is the labels' name in each.
    label_kind
        What ids are. Connected pieces of classes are the objects; of instances, each id.
    mpp
        Pixel size of a field on slides (µm); images are cut at their own, times ``scale``.
    scale
        Fields are drawn between these magnifications.
    share
        Of the fields, beside the other sources.
    split_touching_px
        Cuts clumps of binary labels apart where centres are at least so far from each other.
    hold_out
        Groups (patients, slides) that are validated on and not trained on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str | None = None
    target: str | None = None
    split: str = "train"
    images: Path | None = None
    labels: Path | None = None
    slides: Path | None = None
    pyramids: Path | None = None
    labels_name: str = "classes"
    label_kind: LabelKind | None = None
    mpp: Annotated[float, Field(gt=0, le=100)] | None = None
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 1.25)
    share: Annotated[float, Field(gt=0)] = 1.0
    split_touching_px: Annotated[int, Field(ge=0)] = 0
    hold_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        pairs = ((self.images, self.labels), (self.slides, self.pyramids))
        if any((a is None) != (b is None) for a, b in pairs):
            raise ValueError("images come with labels, and slides with pyramids")
        if [self.dataset is not None, *(a is not None for a, _ in pairs)].count(True) != 1:
            raise ValueError("a source is a dataset, or images and labels, or slides and pyramids")
        if self.slides is not None and self.mpp is None:
            raise ValueError("slides need mpp: the pixel size of a field, in µm")
        return self

    @property
    def name(self) -> str:
        """The data set's name, or the folder."""
        return self.dataset or str(self.images or self.slides)


class WsiTrainConfig(BaseModel):
    """How a WSI-SAM is trained.

    Attributes
    ----------
    field_px
        Side of a field, S.
    fields
        So many fields are drawn once, from the seed, and encoded once: the base never changes.
    fields_per_step, objects_per_field
        What a step learns from.
    cut_share
        Of the objects taken, those that the field's border cuts, where there are any.
    smallest_px
        Objects of which the field shows less are left out.
    prompts
        Kinds of prompt; one kind a step, by chance.
    most_clicks, exactly
        Positive clicks of a point prompt: 1 … ``most_clicks``, or always as many.
    box_noise
        A box's centre is off by up to this share of its half sides, its sides by this share.
    target
        What the mask of the surroundings is: the whole ``object``, its part that is ``visible`` in
        the field, or all that is labelled in the ``field`` (the released code, in both resolutions:
        a union of all objects, larger than what the box is round).
    low_prompts
        What is said in the surroundings: the field's prompts, ``moved``; or points ``sampled`` anew
        from the target there (the released code). A box is always moved.
    balance
        λ of the loss λ·L_high + (1 − λ)·L_low.
    hide_surroundings
        So many of the fields come without, so that the model answers where there are none.
    schedule
        ``cosine`` after a warm-up, or ``constant``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Annotated[tuple[WsiSource, ...], Field(min_length=1)]
    augment: AugmentConfig = AugmentConfig(stain=0.1, sharpness=0.3, noise=2.0)
    field_px: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 256
    fields: Annotated[int, Field(ge=1)] = 300
    steps: Annotated[int, Field(ge=1)] = 400
    fields_per_step: Annotated[int, Field(ge=1)] = 5
    objects_per_field: Annotated[int, Field(ge=1)] = 3
    cut_share: Share = 0.5
    smallest_px: Annotated[int, Field(ge=1)] = 50
    prompts: Annotated[tuple[PromptKind, ...], Field(min_length=1)] = ("box", "point", "mask")
    most_clicks: Annotated[int, Field(ge=1)] = 3
    exactly: bool = False
    box_noise: Annotated[float, Field(ge=0, lt=1)] = 0.1
    target: Literal["object", "visible", "field"] = "object"
    low_prompts: Literal["moved", "sampled"] = "moved"
    balance: Share = 0.5
    hide_surroundings: Share = 0.1
    lr: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 20
    report_every: Annotated[int, Field(ge=1)] = 20
    seed: Annotated[int, Field(ge=0)] = 0


# The paper: one patch a step, λ = 0.5, a constant rate, no patch without surroundings. Its released
# code (train.py, since deleted) draws ten clicks, in each resolution by itself, and the union of
# all outlines is one object; its sum of both losses is twice the paper's λ = 0.5, which AdamW does
# not notice. It jitters the colours of half of the images; here it is the stains' density.
_ORIGINAL: dict[str, Any] = {
    "field_px": 1024, "fields_per_step": 1, "objects_per_field": 1, "cut_share": 0.0,
    "most_clicks": 10, "exactly": True, "box_noise": 0.2, "balance": 0.5, "hide_surroundings": 0.0,
    "schedule": "constant", "warmup": 0, "lr": 1e-3, "weight_decay": 0.01,
    "augment": AugmentConfig(stain=0.1, sharpness=0, noise=0, anisotropy=0, free_rotation=0),
}  # fmt: skip
TRAIN_PROFILES: dict[Profile, dict[str, Any]] = {
    "recommended": {},
    "paper": _ORIGINAL | {"target": "object"},
    "repo": _ORIGINAL | {"target": "field", "low_prompts": "sampled"},
}
"""What each profile has differently; ours leaves the rest as it stands in the class."""
