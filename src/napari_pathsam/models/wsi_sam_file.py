"""WSI-SAM as a model file: what was learned, and by name and checksum what it stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.model_file import ModelCard, load_tensors, read_card, save_tensors
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam import WsiSam, fusion_state
from napari_pathsam.models.wsi_sam_config import WsiSamConfig


def save_wsi_sam(
    path: str | Path,
    model: WsiSam,
    card: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float32,
) -> ModelCard:
    """Write tokens and fusion modules; an older file is replaced only by a whole new one.

    ``card`` has the fields of :class:`ModelCard` except ``config``; ``base`` and ``licence`` are
    needed.
    """
    return save_tensors(
        Path(path), fusion_state(model), ModelCard(config=model.config, **card), dtype
    )


def load_wsi_sam(path: str | Path, *, load_base: Callable[[str], Sam2]) -> tuple[WsiSam, ModelCard]:
    """The model in a file, on the CPU, in eval mode; and its card.

    ``load_base`` finds the promptable model it stands on, and compares its checksum with the one in
    the card.

    Raises
    ------
    BadWeightsError
        The file is damaged, foreign, or not what its card says.
    UnavailableError
        There is no such file, or what it stands on is not here.
    """
    path = Path(path)
    card = read_card(path)
    if not isinstance(card.config, WsiSamConfig):
        raise BadWeightsError(
            f"{path} is no WSI-SAM. Nothing was loaded; `pathsam models info FILE` says what it is."
        )
    try:
        model = WsiSam(card.config, load_base(card.config.base))
    except (AssertionError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise BadWeightsError(
            f"{path} cannot be used: its card describes no model that {card.config.base} can carry "
            f"({error}). Nothing was loaded."
        ) from error
    load_tensors(path, model, fusion_state(model).keys())
    return model.eval(), card
