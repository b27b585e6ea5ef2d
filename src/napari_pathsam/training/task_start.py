"""Task-specific models at the start of training, and as files at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models import coco_start
from napari_pathsam.models.catalogue import load_model, pick_device, weights_sha256
from napari_pathsam.models.checkpoints import cached_path
from napari_pathsam.models.hub import sha256_of
from napari_pathsam.models.ledger import check_recorded
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_file import start_from_imagenet
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
        ImageNet weights that a U-Net's trunk starts from (timm's .safetensors).
    start
        A model file of the same network and classes to go on from; or ``mask-rcnn-coco``.

    Raises
    ------
    BadWeightsError, UnavailableError
        Weights do not fit, or are not here.
    """
    where = pick_device(device)
    guide = None if config.guide is None else load_model(config.guide, "cpu")
    if guide is not None and not isinstance(guide, Sam2):
        raise BadWeightsError(
            f"{config.guide} knows classes already; a network is guided by a promptable model, "
            "such as pathsam-nano."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TaskModel(config, classes, guide)
    if trunk is not None:
        start_from_imagenet(model, trunk)
    if start is not None:
        _go_on_from(model, start)
    return model.to(where).eval()


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
        if path is not None:
            file = cached_path(coco_start.NAME) if str(path) == coco_start.NAME else path
            named.append(BaseWeights(name=path.stem, sha256=sha256_of(file)))
    return tuple(named)
