"""The choices of ``pathsam train``, and which options each way of training reads."""

from __future__ import annotations

from enum import StrEnum

PARTS = ("head", "alignment", "decoder", "encoder")


class Trained(StrEnum):
    """What is trained: each includes the ones before it."""

    head = "head"
    alignment = "alignment"
    decoder = "decoder"
    all = "all"

    @property
    def parts(self) -> tuple[str, ...]:
        last = "encoder" if self is Trained.all else self.value
        return PARTS[: PARTS.index(last) + 1]


class ProfileName(StrEnum):
    """Whose network and settings."""

    recommended = "recommended"
    paper = "paper"
    repo = "repo"


class PresetName(StrEnum):
    """How long and how thoroughly; of task-specific models also the settings of a paper."""

    quick = "quick"
    balanced = "balanced"
    best = "best"
    dtu_sgd = "dtu-sgd"
    dtu_adam = "dtu-adam"
    dtu_notebook = "dtu-notebook"
    dtu_mask_rcnn = "dtu-mask-rcnn"
    unet3plus_paper = "unet3plus-paper"
    eunet3plus_paper = "eunet3plus-paper"
    eunet3plus_released = "eunet3plus-released"


class StainNormName(StrEnum):
    """To whose look stains are brought."""

    macenko = "macenko"


class Kind(StrEnum):
    """What the ids of label images are."""

    instances = "instances"
    classes = "classes"
    binary = "binary"


READ_WITH_RUN = {"out", "run", "device", "resume"}
READ_WITH_PROMPT_RECIPE = {"out", "config", "root", "trunk", "start", "resume"}
READ_BY_WSI = {"out", "root", "seed", "resume", "device", "cache", "cache_gb"}
READ_WITH_WSI_RECIPE = READ_BY_WSI | {"config"}
READ_WITH_WSI_BASE = READ_BY_WSI | {
    "base", "images", "labels", "dataset", "split", "label_kind", "profile", "licence",
}  # fmt: skip
READ_WITH_CLASS_RECIPE = {
    "out", "config", "root", "fold", "trunk", "start", "epochs", "seed", "resume", "cache",
    "cache_gb", "workers", "memory_gb", "device", "distributed",
}  # fmt: skip
