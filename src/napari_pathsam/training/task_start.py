"""Task-specific models at the start of training, and as files at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models import coco_start
from napari_pathsam.models.catalogue import MODELS, load_model, pick_device, weights_sha256
from napari_pathsam.models.checkpoints import cached_path
from napari_pathsam.models.hub import sha256_of
from napari_pathsam.models.ledger import check_recorded
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_file import (
    on_trunk_of,
    start_from_imagenet,
    start_from_promptable,
)
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import find_task_recipe


def task_network(name: str, base: str, profile: Profile, fields: Mapping[str, Any]) -> TaskConfig:
    """The configuration of a recipe: the catalogue's ``base`` with these fields replaced.

    Fields of the network may stand under ``network``.
    """
    return find_task_recipe(base).config(profile, **({"name": name} | dict(fields)))


def start_task(
    config: TaskConfig,
    classes: ClassTable,
    seed: int = 0,
    device: str = "auto",
    *,
    trunk: Path | None = None,
    start: Path | None = None,
) -> TaskModel:
    """An untrained model with its guide.

    Parameters
    ----------
    trunk
        What a U-Net's trunk starts from: ImageNet weights (timm's .safetensors), or the name of a
        promptable model with the same trunk, such as ``pathsam-nano``: the network then pads,
        norms and sees pixels as that one's trunk does, whatever ``config`` says.
    start
        A model file of the same network and classes to go on from; or ``mask-rcnn-coco``.

    Raises
    ------
    BadWeightsError, UnavailableError
        Weights do not fit, or are not here.
    """
    where = pick_device(device)
    guide = None if config.guide is None else _promptable(config.guide)
    base = _promptable(str(trunk)) if str(trunk) in MODELS else None
    if base is not None:
        config = on_trunk_of(config, base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TaskModel(config, classes, guide)
    if base is not None:
        start_from_promptable(model, base)
    elif trunk is not None:
        start_from_imagenet(model, trunk)
    if start is not None:
        _go_on_from(model, start)
    return model.to(where).eval()


def _promptable(name: str) -> Sam2:
    found = load_model(name, "cpu")
    if not isinstance(found, Sam2):
        raise BadWeightsError(
            f"{name} is no promptable model; a network is guided by one, and a U-Net's trunk may "
            "start from one, such as pathsam-nano."
        )
    return found


def _go_on_from(model: TaskModel, path: Path) -> None:
    if str(path) == coco_start.NAME:
        kept = cached_path(coco_start.NAME)
        if not kept.is_file():
            raise UnavailableError(
                f"{coco_start.NAME} was not fetched yet: `pathsam models fetch {coco_start.NAME}`."
            )
        check_recorded(kept)
        return coco_start.start_from_coco(model, kept)
    before = load_model(path, "cpu")
    if not isinstance(before, TaskModel) or before.config.network != model.config.network:
        raise BadWeightsError(
            f"{path} holds another network than {model.name}, which cannot go on from it."
        )
    if before.classes.names != model.classes.names:
        raise BadWeightsError(
            f"{path} knows other classes ({', '.join(before.classes.names)}); training goes on "
            "with the same."
        )
    model.network.load_state_dict(before.network.state_dict())


def stands_on(
    model: TaskModel, *, trunk: Path | None = None, start: Path | None = None
) -> tuple[BaseWeights, ...]:
    """The weights a model was made from, by name and checksum."""
    guide = model.config.guide
    named = [] if guide is None else [BaseWeights(name=guide, sha256=weights_sha256(guide))]
    for path in (trunk, start):
        if str(path) in MODELS:
            named.append(BaseWeights(name=str(path), sha256=weights_sha256(str(path))))
        elif path is not None:
            file = cached_path(coco_start.NAME) if str(path) == coco_start.NAME else path
            named.append(BaseWeights(name=path.stem, sha256=sha256_of(file)))
    return tuple(named)
