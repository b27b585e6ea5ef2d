"""Task-specific models as model files: the network whole, and by name the SAM that guides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.model_file import ModelCard, load_tensors, read_card, save_tensors
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import TimmConfig
from napari_pathsam.models.task_config import TaskConfig, TimmUNetConfig, with_network
from napari_pathsam.models.task_model import TaskModel, build_network

SMALLEST_WEIGHT = 2
"""Bytes of a weight in half precision."""
PADDINGS = {"": "usual", "same": "same"}
"""What a U-Net calls the ways in which a promptable model's trunk pads."""


def network_names(model: TaskModel) -> set[str]:
    """Names of the tensors a model file holds: the network's, running statistics too."""
    return {name for name in model.state_dict() if name.startswith("network.")}


def save_task(
    path: str | Path,
    model: TaskModel,
    card: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Write the network of a model; an older file is replaced only by a whole new one.

    ``card`` has the fields of :class:`ModelCard` except ``config``, ``classes``, ``mpp`` and
    ``trained``; ``licence`` is needed, and ``base`` where there is a guide.
    """
    checked = ModelCard(
        config=model.config, classes=model.classes, mpp=model.config.mpp, trained=("network",),
        **card,
    )  # fmt: skip
    names = network_names(model)
    state = {name: t for name, t in model.state_dict().items() if name in names}
    return save_tensors(Path(path), state, checked, dtype)


def load_task(path: str | Path, *, load_base: Callable[[str], Sam2]) -> tuple[TaskModel, ModelCard]:
    """The model in a file, on the CPU, in eval mode; and its card.

    ``load_base`` finds the promptable model that guides it, and compares its checksum with the one
    in the card.

    Raises
    ------
    BadWeightsError
        The file is damaged, foreign, or not what its card says.
    UnavailableError
        There is no such file, or the guide or a library is not here.
    """
    path = Path(path)
    card = read_card(path)
    config = card.config
    if not isinstance(config, TaskConfig) or not card.classes:
        raise BadWeightsError(
            f"{path} is no task-specific model with classes. Nothing was loaded. "
            "`pathsam models info FILE` shows what it is."
        )
    guide = None if config.guide is None else load_base(config.guide)
    try:
        with torch.device("meta"):  # takes no memory, whatever the card says
            shape = build_network(config, len(card.classes), guide)
        if SMALLEST_WEIGHT * sum(p.numel() for p in shape.parameters()) > path.stat().st_size:
            raise BadWeightsError(
                f"{path} cannot be used: it is far too small for the network its card describes. "
                "Nothing was loaded."
            )
        model = TaskModel(config, card.classes, guide)
    except (AssertionError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise BadWeightsError(
            f"{path} cannot be used: its card describes no network that can be built ({error}). "
            "Nothing was loaded."
        ) from error
    load_tensors(path, model, network_names(model))
    return model.eval(), card


def start_from_imagenet(model: TaskModel, path: Path) -> None:
    """Fill the trunk of a U-Net with timm's weights of it; a classifier's in the file are left.

    Raises
    ------
    BadWeightsError, UnavailableError
        They are not this trunk's; there is no such file.
    """
    _fill(_trunk_of(model, path), path)


def on_trunk_of(config: TaskConfig, base: Sam2) -> TaskConfig:
    """The U-Net that pads, norms and sees pixels as the trunk of a promptable model does.

    The trunk's weights are worth nothing to one that does not.

    Raises
    ------
    BadWeightsError
        The model stands on another trunk, or on none of timm's; or this is no U-Net on one.
    """
    own, theirs = config.network, base.config.trunk
    if not isinstance(own, TimmUNetConfig):
        raise _no_trunk(config.name, base.name)
    if not isinstance(theirs, TimmConfig) or theirs.name != own.trunk:
        kind = theirs.name if isinstance(theirs, TimmConfig) else "a trunk of its own"
        raise BadWeightsError(
            f"{base.name} has {kind}, and {config.name} stands on {own.trunk}: it cannot start "
            "from there. Take --base unet-timm with the same trunk, or timm's weights of it."
        )
    if theirs.pad_type not in PADDINGS:
        raise BadWeightsError(
            f"The trunk of {base.name} pads in a way that no U-Net here does ({theirs.pad_type}), "
            f"so {config.name} cannot start from it. Take timm's weights of {own.trunk}."
        )
    colours = {"pixel_mean": base.config.pixel_mean, "pixel_std": base.config.pixel_std}
    padding = PADDINGS[theirs.pad_type]
    return with_network(config.model_copy(update=colours), padding=padding, frozen_norm=True)


def start_from_promptable(model: TaskModel, base: Sam2) -> None:
    """Fill the trunk of a U-Net that :func:`on_trunk_of` made with the promptable model's."""
    net = _trunk_of(model, base.name)
    net.load_state_dict(base.get_submodule("image_encoder.trunk.net").state_dict())


def _trunk_of(model: TaskModel, start: Path | str) -> nn.Module:
    trunk = model.network._modules.get("trunk")
    net = None if trunk is None else trunk._modules.get("model")
    if net is None:
        raise _no_trunk(model.name, start)
    return net


def _no_trunk(name: str, start: Path | str) -> BadWeightsError:
    return BadWeightsError(f"{name} has no trunk that could start from {start}; unet-timm has.")


def _fill(net: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise UnavailableError(f"There is no file {path}. Check the path.")
    try:
        tensors, state = load_file(path), {}
        for name, wanted in net.state_dict().items():
            # timm writes stages.0 as stages_0 where it hands out features.
            tensor = tensors.get(name, tensors.get(name.replace("_", ".", 1)))
            if tensor is None or tensor.shape != wanted.shape:
                raise ValueError(f"{name} is missing or of another shape")
            state[name] = tensor
        net.load_state_dict(state)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise BadWeightsError(
            f"{path} does not fit the trunk ({error}). Wanted is timm's own .safetensors of the "
            "same network."
        ) from error
