"""Task-specific networks in fine-tuning: which there are, and how one starts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.checkpoints import cached_path
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.model_file import BaseWeights, read_card
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.models.task_config import MaskRcnnConfig, TaskConfig, TimmUNetConfig
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe, is_task
from napari_pathsam.training.class_start import base_of
from napari_pathsam.training.finetune_config import FineTuneSettings
from napari_pathsam.training.task_start import stands_on, start_task

TRUNK_OF = Path("pathsam-nano")
"""Whose trunk a U-Net on a timm trunk starts from: it is here, and has seen histology."""
SMALL: dict[str, dict[str, Any]] = {
    "unet": {"network": {"width": 16}},
    "unet-timm": {},
    "unet3plus": {"network": {"width": 8}},
    "eunet3plus": {"network": {"width": 8}},
    "guided-eunet3plus": {"network": {"width": 8}},
}
"""What is offered, and how it differs from the catalogue's: narrow enough for a CPU."""


def trains_network(base: str, start: str | None) -> bool:
    """Whether training that starts so is of a task-specific network, whole."""
    if start is None:
        return is_task(base)
    path = _file_of(start)
    return path.is_file() and _holds_network(path, path.stat().st_mtime_ns)


def _file_of(start: str) -> Path:
    """The model file a start names: a path, or an imported model's name."""
    path = Path(start)
    with suppress(UnavailableError):  # a name with a colon is the catalogue's
        return path if path.is_file() else cached_path(start)
    return path


@lru_cache(maxsize=32)
def _holds_network(path: Path, _changed: int) -> bool:
    return isinstance(read_card(path).config, TaskConfig)


def network_config(settings: FineTuneSettings, mpp: float) -> TaskConfig:
    """The network of these settings, from new.

    Raises
    ------
    BadWeightsError
        Painted classes are not what it learns from (Mask R-CNN: objects).
    """
    if settings.base not in SMALL:
        raise _not_taught(settings.base)
    fields: dict[str, Any] = {"name": settings.name, "mpp": mpp} | SMALL[settings.base]
    return find_task_recipe(settings.base).config(**fields)


def check_taught(config: TaskConfig, name: str) -> None:
    """Refuse a network that painted classes cannot teach; BadWeightsError."""
    if isinstance(config.network, MaskRcnnConfig):
        raise _not_taught(f"{name}, a Mask R-CNN that learns from objects,")


def _not_taught(name: str) -> BadWeightsError:
    return BadWeightsError(
        f"{name} is not taught with what is painted; {', '.join(SMALL)} are. Train it on label "
        "images: pathsam train --base."
    )


def new_network(settings: FineTuneSettings, mpp: float) -> TaskModel:
    """The model before its first step, from new."""
    config = network_config(settings, mpp)
    trunk = TRUNK_OF if isinstance(config.network, TimmUNetConfig) else None
    seed = settings.config.seed
    return start_task(config, settings.model_classes, seed, settings.device, trunk=trunk)


def network_from(settings: FineTuneSettings, found: TaskModel) -> TaskModel:
    """The model before its first step, with the weights of another one of the same classes.

    It works at ``settings.mpp``, or else at the pixel size of the other one.

    Raises
    ------
    BadWeightsError
        It has other classes, or is a Mask R-CNN.
    """
    check_taught(found.config, found.name)
    wanted = settings.model_classes
    same = wanted.counterparts(found.classes)
    if [same.get(info.id) for info in wanted] != [info.id for info in found.classes]:
        raise BadWeightsError(
            f"{found.name} knows {', '.join(found.classes.names)}, and the labels are "
            f"{', '.join(wanted.names)}. A network goes on with the classes it has; start a new "
            "one for others."
        )
    changes = {"name": settings.name, "tissue": ""}
    mpp = settings.mpp or found.config.mpp
    config = found.config.model_copy(update=changes | {"mpp": mpp})
    model = TaskModel(config, wanted, found.guide)
    model.network.load_state_dict(found.network.state_dict())
    return model.to(found.device).eval()


def own_copy(model: ClassModel, weights: Mapping[str, Tensor]) -> ClassModel:
    """A model of its own with these weights and otherwise the model's; encoders are shared."""
    own: ClassModel
    if isinstance(model, TaskModel):
        own = TaskModel(model.config, model.classes, model.guide)
    else:
        own = PathSam(model.config, model.base, model.classes, model.pathology)
    state = {n: t for n, t in model.state_dict().items() if part_of(n) not in (None, "encoder")}
    own.load_state_dict(state | dict(weights), strict=False)
    # Building it froze the shared parts, which they were; ours goes on training.
    return own.to(model.device).eval()


def made_from(model: ClassModel, start: str | None) -> tuple[BaseWeights, ...]:
    """What a model stands on, and what a U-Net's trunk started from, by name and checksum.

    A network that went on from a file (``start``) stands on what that file's card names.
    """
    if isinstance(model, PathSam):
        return base_of(model)
    if start is not None:
        return read_card(_file_of(start)).base
    on_timm = isinstance(model.config.network, TimmUNetConfig)
    return stands_on(model, trunk=TRUNK_OF if on_timm else None)
