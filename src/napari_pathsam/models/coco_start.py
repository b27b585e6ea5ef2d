"""torchvision's Mask R-CNN, trained on COCO, as what a Mask R-CNN starts from."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.model_file import (
    BaseWeights,
    ModelCard,
    check_layout,
    load_tensors,
    save_tensors,
)
from napari_pathsam.models.task_config import MaskRcnnConfig, TaskConfig
from napari_pathsam.models.task_model import TaskModel, build_network

NAME = "mask-rcnn-coco"
COCO_CLASSES = 90
"""The channels of COCO's annotation ids; ten of them are not used."""
HASH_STARTS = "bf2d0c1e"
"""How the file's SHA-256 begins: torchvision publishes no more of it, in the file's name."""
PREDICTORS = ("network.rcnn.roi_heads.box_predictor.", "network.rcnn.roi_heads.mask_predictor.")
"""The last layers, which know COCO's classes."""


def coco_config() -> TaskConfig:
    """The published network: ResNet-50, fixed norms, images of 800 to 1333 pixels."""
    network = MaskRcnnConfig(resize=(800, 1333), score=0.05, most=100)
    return TaskConfig(name=NAME, network=network, outputs="foreground", mpp=1.0)


def import_coco(checkpoint: Path, digest: str, source: str, path: Path) -> None:
    """The published .pth → a file of ours; nothing in it is executed.

    Raises
    ------
    BadWeightsError
        It is damaged, or not the published file.
    """
    if not digest.startswith(HASH_STARTS):
        raise _foreign(checkpoint, f"its SHA-256 does not begin with {HASH_STARTS}")
    state = {f"network.rcnn.{name}": tensor for name, tensor in _read(checkpoint).items()}
    config = coco_config()
    with torch.device("meta"):
        wanted = build_network(config, COCO_CLASSES).state_dict()
    shapes = {f"network.{name}": tuple(t.shape) for name, t in wanted.items()}
    check_layout(checkpoint, shapes, {name: tuple(t.shape) for name, t in state.items()})
    card = ModelCard(
        config=config,
        trained=("network",),
        base=(BaseWeights(name=NAME, sha256=digest),),
        provenance={"source": source, "converted_from": "torchvision's checkpoint layout"},
        licence="BSD-3-Clause",
    )
    save_tensors(path, state, card, torch.float32)


def _read(checkpoint: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise _foreign(checkpoint, "it is damaged, or holds more than tensors") from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise _foreign(checkpoint, "it has no table of tensors")
    return found


def start_from_coco(model: TaskModel, path: Path) -> None:
    """Fill a Mask R-CNN with what :func:`import_coco` kept, but for the last layers.

    Raises
    ------
    BadWeightsError
        The model is another network.
    """
    own = model.config.network
    if not isinstance(own, MaskRcnnConfig) or (own.trunk, own.frozen_norm) != ("resnet50", True):
        raise BadWeightsError(
            f"{model.name} cannot start from COCO: that is a Mask R-CNN on a ResNet-50 with "
            'frozen_norm (trunk = "resnet50", frozen_norm = true).'
        )
    with torch.random.fork_rng(devices=[]):
        whole = torch.nn.Module()
        whole.network = build_network(coco_config(), COCO_CLASSES)
    load_tensors(path, whole)
    kept = {n: t for n, t in whole.state_dict().items() if not n.startswith(PREDICTORS)}
    model.load_state_dict(kept, strict=False)  # all but the last layers: same network


def _foreign(path: Path, why: str) -> BadWeightsError:
    return BadWeightsError(
        f"{path} was not imported: {why}. Wanted is torchvision's "
        f"maskrcnn_resnet50_fpn_coco-{HASH_STARTS}.pth. Nothing was changed."
    )
