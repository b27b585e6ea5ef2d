"""From a recipe file to a trained WSI-SAM: ``pathsam train --config wsi-sam-nano-tnbc``."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_pathsam.core.errors import BadFileError, BadWeightsError, what_is_wrong
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam_config import Profile
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.wsi_sam import WsiSam
from napari_pathsam.models.wsi_sam_config import WsiSamConfig, wsi_profiled
from napari_pathsam.models.wsi_sam_file import save_wsi_sam
from napari_pathsam.training.class_recipe import recipe_file
from napari_pathsam.training.wsi_config import TRAIN_PROFILES, WsiSource, WsiTrainConfig
from napari_pathsam.training.wsi_fit import WsiReport, WsiTrainer, fit_wsi_sam
from napari_pathsam.training.wsi_scenes import ImageScene, Scene, load_scenes
from napari_pathsam.training.wsi_score import score_fields

KIND = "wsi-sam"


class WsiRecipe(BaseModel):
    """All a training run needs but the folders.

    ``network`` and ``train`` replace fields of the profile's; ``sources`` are trained on,
    ``validation`` (and the groups that sources hold out) measured afterwards, chosen by nothing.
    In the file it says ``model = "wsi-sam"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: str
    profile: Profile = "recommended"
    network: dict[str, Any] = {}
    train: dict[str, Any] = {}
    sources: tuple[WsiSource, ...]
    validation: tuple[WsiSource, ...] = ()
    licence: str
    attribution: tuple[str, ...] = ()

    def network_config(self) -> WsiSamConfig:
        """The network's configuration; ValidationError where fields are wrong."""
        fields = {"name": self.name, "base": self.base} | self.network
        return wsi_profiled(self.profile, **fields)

    def train_config(self) -> WsiTrainConfig:
        """The settings of training; ValidationError where fields are wrong."""
        fields = TRAIN_PROFILES[self.profile] | self.train
        return WsiTrainConfig(sources=self.sources, **fields)


def read_wsi_recipe(name_or_path: str) -> WsiRecipe | None:
    """A packaged recipe by name, or the user's by path; None when it is none of a WSI-SAM.

    Raises BadFileError where fields are wrong.
    """
    try:
        content = tomllib.loads(recipe_file(name_or_path) or "")
        if content.pop("model", None) != KIND:
            return None
        recipe = WsiRecipe.model_validate(content)
        recipe.network_config(), recipe.train_config()
        return recipe
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadFileError(
            f"{name_or_path} is not a training recipe: {what_is_wrong(error)}."
        ) from error


def prepare_wsi_sam(
    recipe: WsiRecipe,
    roots: Mapping[str, Path],
    device: str = "auto",
    *,
    cache: EmbeddingCache | None = None,
) -> tuple[WsiTrainer, list[Scene]]:
    """The images, and the model untrained; and what is measured afterwards.

    Raises
    ------
    BadFileError, BadImageError, UnavailableError
        A folder was not given, a file is damaged, what the model stands on is not here.
    """
    from napari_pathsam.models.catalogue import load_model, pick_device

    config = recipe.train_config()
    scenes, held_out = [], []
    for source in config.sources:
        train, held = load_scenes(source, roots)
        scenes.append(train)
        held_out += held
    for source in recipe.validation:
        held_out += load_scenes(source, roots)[0]
    base = load_model(recipe.base, "cpu")
    if not isinstance(base, Sam2):
        raise BadWeightsError(
            f"A WSI-SAM stands on a model that answers prompts, and {recipe.base} is none by "
            "itself. Name one of `pathsam models list`, such as pathsam-nano or sam2.1-tiny."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = WsiSam(recipe.network_config(), base)
    return WsiTrainer(model.to(pick_device(device)), scenes, config, cache=cache), held_out


def train_wsi_sam(
    recipe: WsiRecipe,
    roots: Mapping[str, Path],
    out: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    cache: EmbeddingCache | None = None,
) -> Iterator[WsiReport]:
    """Run a recipe; at the end the model file lies at ``out``.

    The state of an unfinished run is kept beside it (``.state.pt``); ``resume`` goes on from there
    and ends with the weights of a run that was never stopped.
    """
    from napari_pathsam.models.catalogue import weights_sha256

    trainer, held_out = prepare_wsi_sam(recipe, roots, device, cache=cache)
    state = out.with_suffix(".state.pt")
    if not resume:
        state.unlink(missing_ok=True)
    yield from fit_wsi_sam(trainer, state=state)
    base = BaseWeights(name=recipe.base, sha256=weights_sha256(recipe.base))
    provenance = {
        "recipe": recipe.model_dump(mode="json"),
        "n_images": sum(len(scenes) for scenes in trainer.scenes),
        "validation": validation(trainer, held_out),
        "versions": {name: version(name) for name in ("torch", "timm", "sam2", "napari-pathsam")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    card = {"licence": recipe.licence, "base": (base,), "provenance": provenance}
    save_wsi_sam(out, trainer.model.cpu(), card, dtype=torch.float16)
    state.unlink(missing_ok=True)


def validation(trainer: WsiTrainer, scenes: list[Scene]) -> dict[str, Any]:
    """Mean IoU over the objects of what was held out: those the fields' border cuts, and whole."""
    config = trainer.config
    images = [scene for scene in scenes if isinstance(scene, ImageScene)]
    scores = list(
        score_fields(
            trainer.model, images, side=config.field_px, factor=trainer.model.config.factor,
            smallest_px=config.smallest_px,
        )
    )  # fmt: skip
    told: dict[str, Any] = {"images": [scene.name for scene in images]}
    for name, cut in (("cut", True), ("whole", False)):
        some = [s for s in scores if s.cut is cut]
        told[name] = {"objects": len(some)}
        for prompt in ("iou_click", "iou_box"):
            mean = float(np.mean([getattr(s, prompt) for s in some])) if some else math.nan
            told[name][prompt] = None if math.isnan(mean) else round(mean, 4)
    return told
