"""From a trained model to one file that says what it is, where from and how good."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_pathsam.core.metrics import dice_per_class, iou_per_class
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.head_file import save_head
from napari_pathsam.models.model_file import ModelCard
from napari_pathsam.models.pathsam import part_of
from napari_pathsam.models.pathsam_config import Part
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_fit import count_images
from napari_pathsam.training.class_images import TrainingImage
from napari_pathsam.training.class_report import Validation
from napari_pathsam.training.class_start import Prepared


def metrics_of(model: ClassModel, images: Sequence[TrainingImage]) -> dict[str, Any]:
    """Figures over images, from pooled counts: of the foreground, of each class, their mean."""
    found = Validation(count_images(model, images))
    dice, iou = dice_per_class(found.counts)[1:], iou_per_class(found.counts)[1:]
    each = zip(model.classes.names, dice, iou, strict=True)
    return {
        "n_images": len(images),
        "dice": found.dice,
        "iou": found.iou,
        "macro_dice": found.macro_dice,
        "per_class": {name: {"dice": float(d), "iou": float(i)} for name, d, i in each if d == d},
    }


def write_model(prepared: Prepared, out: Path, config: TrainConfig, *, epochs: int) -> ModelCard:
    """The parts of a model that ``config`` trained, as a file whose card says where from."""
    recipe, model = prepared.recipe, prepared.model
    dtype = torch.float32 if config.precision == "single" else torch.float16
    _round(model, config.parts, dtype)  # what is measured is what is in the file
    groups = sorted({image.group for image in prepared.validation})
    provenance = {
        "recipe": recipe.model_dump(mode="json"),
        "train": config.model_dump(mode="json"),
        "data": [source.name for source in recipe.sources],
        "split": {
            "n_images": len(prepared.images),
            "n_validation": len(prepared.validation),
            "validation_groups": groups,
            "seed": config.seed,
        },
        "epochs": epochs,
        "metrics": metrics_of(model, prepared.validation) if prepared.validation else {},
        "versions": {name: version(name) for name in ("torch", "timm", "sam2", "napari-pathsam")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    card = {"licence": recipe.licence, "base": prepared.base, "provenance": provenance}
    if isinstance(model, TaskModel):
        model.config = recipe.used_config(model.config)
        return save_task(out, model, card, dtype=dtype)
    return save_head(out, model, card, trained=config.parts, dtype=dtype)


@torch.no_grad()
def _round(model: ClassModel, parts: tuple[Part, ...], dtype: torch.dtype) -> None:
    for name, tensor in model.state_dict().items():
        if part_of(name) in parts and tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def state_file(out: Path) -> Path:
    """Where an unfinished run of this model file keeps its state."""
    return out.with_suffix(".state.pt")
