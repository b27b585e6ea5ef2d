"""How task-specific networks are taught: named settings, the papers' among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from napari_pathsam.models.pathsam_config import Part, Profile
from napari_pathsam.models.task_recipes import find_task_recipe
from napari_pathsam.training.class_config import ClassLossConfig, Preset, TrainConfig
from napari_pathsam.training.task_augment import AS_IT_IS, SWAYING

TaskPreset = Literal[
    "network", "guided-network", "objects", "dtu-sgd", "dtu-adam", "dtu-notebook", "dtu-mask-rcnn",
    "unet3plus-paper", "eunet3plus-paper", "eunet3plus-released",
]  # fmt: skip
TASK_PARTS: tuple[Part, ...] = ("network", "trunk")

_WHOLE: dict[str, Any] = {"parts": TASK_PARTS, "variants": None, "stride": 1}
_CROSS_ENTROPY = ClassLossConfig(alpha=1.0, beta=0.0, gamma=0.0, over_classes="sum")
_AS_THEY_DO: dict[str, Any] = {
    **_WHOLE, "schedule": "constant", "warmup": 0, "clip": 1e6, "ema": None, "scale": (1.0, 1.0),
    "augment": AS_IT_IS,
}  # fmt: skip
_DTU = _AS_THEY_DO | {"drawn_as": "dtu", "patch_px": 512, "batch": 6, "loss": _CROSS_ENTROPY}
_EUNET = _AS_THEY_DO | {
    "drawn_as": "eunet3plus", "patch_px": 256, "batch": 16, "epochs": 50, "optimizer": "adam",
    "lr": 1e-4, "weight_decay": 1e-5, "augment": SWAYING,
}  # fmt: skip
_NETWORK = _WHOLE | {
    "epochs": 60, "lr": 1e-3, "encoder_lr": 3e-4, "ema": 0.99,
    "loss": ClassLossConfig(alpha=0.5, beta=0.0),
}  # fmt: skip

SETTINGS: dict[TaskPreset, dict[str, Any]] = {
    "network": _NETWORK,
    # SAM sees each of so many variants once.
    "guided-network": _NETWORK | {"variants": 8},
    "objects": _WHOLE | {
        "optimizer": "sgd", "lr": 5e-3, "weight_decay": 5e-4, "batch": 2, "epochs": 60,
        "warmup": 100, "clip": 10.0, "ema": None,
    },
    # DTU's two phases on GlaS (paper), and the settings of its notebook.
    "dtu-sgd": _DTU | {
        "optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "weight_decay": 1e-5, "epochs": 900,
    },
    "dtu-adam": _DTU | {"optimizer": "adam", "lr": 1e-5, "weight_decay": 1e-3, "epochs": 50},
    "dtu-notebook": _DTU | {"optimizer": "adam", "lr": 1e-4, "weight_decay": 0.05, "epochs": 50},
    # torchvision's settings for fine-tuning, as the paper has them.
    "dtu-mask-rcnn": _AS_THEY_DO | {
        "optimizer": "sgd", "lr": 5e-3, "weight_decay": 5e-4, "batch": 2, "epochs": 500,
        "drawn_as": "dtu", "patch_px": 512,
    },
    # Focal and IoU loss at every level; the paper's third term, MS-SSIM, is left out.
    "unet3plus-paper": _NETWORK | {
        "loss": ClassLossConfig(alpha=0.5, beta=0.0, overlap_as="iou"), "patch_px": 320,
    },
    # Dice and focal loss, half and half; classes are weighted with `loss.weights`.
    "eunet3plus-paper": _EUNET | {"loss": ClassLossConfig(alpha=0.5, beta=0.0)},
    "eunet3plus-released": _EUNET | {
        "loss": ClassLossConfig(alpha=0.5, beta=0.0, overlap_as="released", each_alone=True),
    },
}  # fmt: skip
"""Fields of :class:`TrainConfig` by the name of a preset."""

_DEFAULTS: dict[str, dict[Profile, TaskPreset]] = {
    "unet": {"recommended": "network", "paper": "dtu-sgd", "repo": "dtu-notebook"},
    "unet3plus": {"recommended": "network", "paper": "unet3plus-paper", "repo": "unet3plus-paper"},
    "eunet3plus": {
        "recommended": "network", "paper": "eunet3plus-paper", "repo": "eunet3plus-released",
    },
    "guided-eunet3plus": {
        "recommended": "guided-network", "paper": "eunet3plus-paper",
        "repo": "eunet3plus-released",
    },
    "mask-rcnn": {"recommended": "objects", "paper": "dtu-mask-rcnn", "repo": "dtu-mask-rcnn"},
}  # fmt: skip
_LENGTHS: dict[Preset, dict[str, Any]] = {
    "quick": {"epochs": 15},
    "balanced": {"epochs": 60, "patience": 15},
    "best": {"epochs": 200, "patience": 40},
}


def task_training(
    base: str, profile: Profile, preset: Preset | TaskPreset | None, given: Mapping[str, Any]
) -> TrainConfig:
    """The settings of a model of the catalogue in a profile, with these fields set or replaced.

    ``preset`` names other settings, or says how long the recommended ones are used.
    """
    plain = find_task_recipe(base).name.partition("+")[0]
    usual = _DEFAULTS.get(plain, {}).get(profile, "network")
    named = preset if preset in get_args(TaskPreset) else usual
    found = SETTINGS[named]  # type: ignore[index]
    length = _LENGTHS.get(preset, {}) if profile == "recommended" else {}  # type: ignore[arg-type]
    return TrainConfig(**(found | length | dict(given)))
