"""Heads as model files: only what was trained, and by name and checksum what it stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.encoders import EncoderSpec, PathologyEncoder
from napari_pathsam.models.model_file import ModelCard, load_tensors, read_card, save_tensors
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.models.pathsam_config import Part, PathSamConfig
from napari_pathsam.models.sam2 import Sam2


def trained_names(model: PathSam, parts: tuple[Part, ...]) -> set[str]:
    """Names of the tensors that belong to these parts."""
    return {name for name in model.state_dict() if part_of(name) in parts}


def save_head(
    path: str | Path,
    model: PathSam,
    card: Mapping[str, Any],
    *,
    trained: tuple[Part, ...],
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Write the trained parts of a model; an older file is replaced only by a whole new one.

    ``card`` has the fields of :class:`ModelCard` except ``config``, ``classes``, ``mpp`` and
    ``trained``; ``base`` and ``licence`` are needed.
    """
    checked = ModelCard(
        config=model.config,
        classes=model.classes,
        mpp=model.config.mpp,
        trained=trained,
        **card,
    )
    names = trained_names(model, trained)
    state = {name: t for name, t in model.state_dict().items() if name in names}
    return save_tensors(Path(path), state, checked, dtype)


def load_head(
    path: str | Path,
    *,
    load_base: Callable[[str], Sam2],
    load_encoder: Callable[[EncoderSpec], PathologyEncoder],
) -> tuple[PathSam, ModelCard]:
    """The model in a head's file, on the CPU, in eval mode; and its card.

    ``load_base`` and ``load_encoder`` find what it stands on, and compare its checksum with the one
    in the file's card (:func:`~napari_pathsam.models.catalogue.load_model` does).

    Raises
    ------
    BadWeightsError
        The file is damaged, foreign, or not what its card says.
    UnavailableError
        There is no such file, or what it stands on is not here.
    """
    path = Path(path)
    card = read_card(path)
    config = card.config
    if not isinstance(config, PathSamConfig) or card.classes is None or not card.trained:
        raise BadWeightsError(
            f"{path} is no model that knows classes: its card names no class prompts. Nothing was "
            "loaded. `pathsam models info FILE` shows what it is."
        )
    base = load_base(config.base)
    encoder = None if config.encoder is None else load_encoder(config.encoder)
    try:
        model = PathSam(config, base, card.classes, encoder)
    except (AssertionError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise BadWeightsError(
            f"{path} cannot be used: its card describes no model that {config.base} can carry "
            f"({error}). Nothing was loaded."
        ) from error
    load_tensors(path, model, trained_names(model, card.trained))
    return model.eval(), card
