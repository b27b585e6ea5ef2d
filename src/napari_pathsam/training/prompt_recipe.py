"""From a recipe file to a trained promptable model: data sets in, one model file out."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import ndimage

from napari_pathsam.core.errors import BadFileError, BadWeightsError, what_is_wrong
from napari_pathsam.core.label_map import split_touching
from napari_pathsam.datasets import open_dataset
from napari_pathsam.datasets.base import Sample
from napari_pathsam.models.model_file import load_tensors, save_model
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.sam2_config import SAM2_CONFIGS, Sam2Config
from napari_pathsam.models.trunks import TimmTrunk
from napari_pathsam.training.prompt_data import LabelledImage, SourceConfig
from napari_pathsam.training.prompt_fit import PromptReport, PromptTrainConfig, fit_prompts


class PromptRecipe(BaseModel):
    """All a training run needs but the folders: what ``--config`` names.

    ``base`` is one of the SAM 2 configurations; ``network`` replaces some of its fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    network: dict[str, object] = {}
    licence: str
    attribution: tuple[str, ...] = ()
    train: PromptTrainConfig

    def model_config_used(self) -> Sam2Config:
        """The network's configuration, replaced fields included."""
        if self.base not in SAM2_CONFIGS:
            raise BadFileError(
                f"The recipe starts from {self.base!r}, which is none of {', '.join(SAM2_CONFIGS)}."
            )
        return Sam2Config.model_validate(SAM2_CONFIGS[self.base].model_dump() | self.network)


def read_recipe(name_or_path: str) -> PromptRecipe:
    """A packaged recipe by name, or one of the user's by path.

    Raises
    ------
    BadFileError
        There is none of that name, or it has unknown or wrong fields.
    """
    packaged = files("napari_pathsam.training") / f"{name_or_path.replace('-', '_')}.toml"
    source = packaged if packaged.is_file() else Path(name_or_path)
    try:
        return PromptRecipe.model_validate(tomllib.loads(source.read_text("utf-8")))
    except OSError as error:
        raise BadFileError(
            f"There is no recipe {name_or_path}: neither a file nor one that came with the "
            "package (pathsam-nano, pathsam-nano-stains)."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadFileError(
            f"{name_or_path} is not a training recipe: {what_is_wrong(error)}."
        ) from error


def labelled_image(sample: Sample, config: SourceConfig, source: int) -> LabelledImage | None:
    """A sample as training takes it; None when it is (almost) all foreground."""
    image, labels = sample.load()
    labelled = labels != 0
    if labelled.mean() > config.largest_foreground:
        return None
    if sample.label_kind == "instances":
        readings = [labels.astype(np.int32)]
    else:
        readings = [_components(labelled)]
    if config.split_touching_px:
        readings.insert(0, split_touching(labelled, config.split_touching_px))
    return LabelledImage(image, np.stack(readings), source)


def _components(labelled: NDArray[np.bool_]) -> NDArray[np.int32]:
    found, _ = ndimage.label(labelled, structure=np.ones((3, 3)))
    components: NDArray[np.int32] = found.astype(np.int32)
    return components


def load_images(recipe: PromptRecipe, roots: Mapping[str, Path]) -> list[LabelledImage]:
    """Every training image of the recipe's data sets, in memory.

    Raises
    ------
    BadFileError
        A data set's folder was not given, or is not what it should be.
    """
    images = []
    for index, config in enumerate(recipe.train.sources):
        if config.dataset not in roots:
            raise BadFileError(
                f"The recipe trains on {config.dataset}: say where it lies with "
                f"--root {config.dataset}=FOLDER. `pathsam datasets info {config.dataset}` says "
                "where to get it."
            )
        samples = open_dataset(config.dataset, roots[config.dataset], config.split)
        found = (labelled_image(sample, config, index) for sample in samples)
        images += [one for one in found if one is not None]
    return images


def load_trunk(model: Sam2, path: Path) -> None:
    """ImageNet weights of the trunk, in timm's names; the classifier's are left.

    Raises
    ------
    BadWeightsError
        They are not this trunk's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    trunk = model.image_encoder.trunk
    if not isinstance(trunk, TimmTrunk):
        raise BadWeightsError("Only a timm trunk starts from ImageNet weights; leave out --trunk.")
    classifier = ("conv_head.", "bn2.", "classifier.")
    try:
        tensors = {k: v for k, v in load_file(path).items() if not k.startswith(classifier)}
        trunk.net.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        raise BadWeightsError(f"{path} does not fit the trunk: {error}") from error


def train_promptable(
    recipe: PromptRecipe,
    roots: Mapping[str, Path],
    out: Path,
    *,
    trunk: Path | None = None,
    start: Path | None = None,
    resume: bool = False,
) -> Iterator[PromptReport]:
    """Run a recipe; at the end the model file lies at ``out``.

    ``trunk`` holds ImageNet weights to start from, or ``start`` is a model file to go on from.

    The state of an unfinished run is kept beside it (``.state.pt``); ``resume`` goes on from there
    and ends with the weights of a run that was never stopped.
    """
    config = recipe.train
    images = load_images(recipe, roots)
    torch.manual_seed(config.seed)
    model = Sam2(recipe.model_config_used())
    if trunk is not None:
        load_trunk(model, trunk)
    if start is not None:
        load_tensors(start, model)
    model = model.to(memory_format=torch.channels_last)
    state = out.with_suffix(".state.pt")
    if not resume:
        state.unlink(missing_ok=True)
    base = [{"name": one.name, "sha256": _sha256(one)} for one in (trunk, start) if one]
    checksums = [one["sha256"] for one in base]
    yield from fit_prompts(model, images, config, resume=state, base=checksums)
    provenance = {
        "recipe": recipe.model_dump(mode="json"),
        "n_images": len(images),
        "versions": {name: version(name) for name in ("torch", "timm", "sam2", "napari-pathsam")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    card = {"licence": recipe.licence, "base": base, "provenance": provenance}
    save_model(out, model.to(memory_format=torch.contiguous_format), card, dtype=torch.float16)
    state.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
