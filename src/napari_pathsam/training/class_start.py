"""From a recipe to a model and its images, ready to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError, BadWeightsError
from napari_pathsam.inference.working_grid import at_home
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.encoders import load_encoder
from napari_pathsam.models.model_file import BaseWeights
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.class_config import TrainConfig
from napari_pathsam.training.class_extras import blank_glass, composites
from napari_pathsam.training.class_images import ImageStore, TrainingImage, load_images
from napari_pathsam.training.class_recipe import ClassRecipe, ClassSource
from napari_pathsam.training.class_split import fold_by_group, split_by_group
from napari_pathsam.training.class_trainer import wants_objects
from napari_pathsam.training.task_start import stands_on, start_task


@dataclass(frozen=True)
class Prepared:
    """A recipe with its model and images, ready to run; ``base`` is what the model stands on."""

    recipe: ClassRecipe
    model: ClassModel
    config: TrainConfig
    images: list[TrainingImage]
    validation: list[TrainingImage]
    base: tuple[BaseWeights, ...]


def prepare(
    recipe: ClassRecipe,
    roots: Mapping[str, Path],
    device: str = "auto",
    *,
    store: ImageStore | None = None,
    workers: int = 0,
) -> Prepared:
    """Read the images and build the model of a recipe.

    ``store`` says how many images stay in memory, ``workers`` how many processes read them.

    Raises
    ------
    BadFileError, BadImageError
        A data set's folder was not given, a file is damaged, nothing is labelled.
    BadWeightsError, UnavailableError
        The base or the encoder cannot be had.
    """
    config = recipe.train_config()
    network, told = recipe.network_config(), {"trunk": recipe.trunk, "start": recipe.start}
    model: ClassModel
    if isinstance(network, TaskConfig):
        model = start_task(network, recipe.classes, config.seed, device, **told)
    else:
        model = start_model(network, recipe.classes, config.seed, device)
    _check_parts(model, config)
    load = partial(
        _load, recipe=recipe, roots=roots, mpp=model.config.mpp, workers=workers,
        store=ImageStore() if store is None else store, objects=wants_objects(model),
        gap_um=model.config.gap_um if isinstance(model, TaskModel) else None,
    )  # fmt: skip
    images, mpps = load(recipe.sources)
    if network.mpp_range is None:
        home = at_home(network.mpp, mpps)
        model.config = model.config.model_copy(update={"mpp_range": home})
    if recipe.validation:
        validation, _ = load(recipe.validation)
        _refuse_leak(recipe, images, validation)
    elif recipe.fold is not None:
        images, validation = fold_by_group(images, *recipe.fold_of)
    else:
        images, validation = split_by_group(images, recipe.val_share, config.seed)
    images += blank_glass(recipe.glass, model.config.mpp)  # nobody's: never held out
    config = _adapted(config, recipe.train, model, images)
    if config.patch_px > model.tile_px:
        raise BadFileError(
            f"Patches of {config.patch_px} px are more than {model.name} sees at once "
            f"({model.tile_px} px at {model.config.mpp} µm). Make patch_px smaller."
        )
    base = stands_on(model, **told) if isinstance(model, TaskModel) else base_of(model)
    return Prepared(recipe, model, config, images, validation, base)


def _refuse_leak(
    recipe: ClassRecipe, images: Sequence[TrainingImage], validation: Sequence[TrainingImage]
) -> None:
    """Patients that were told from names must not be on both sides."""
    if not any(source.group_by for source in (*recipe.sources, *recipe.validation)):
        return
    both = sorted({one.group for one in images} & {one.group for one in validation})
    if both:
        raise BadFileError(
            f"{', '.join(both[:5])}{' …' if len(both) > 5 else ''}: images of the same patient or "
            "slide (--group-by) are both trained and validated on, and the score would be too "
            "good. Move them to one side, or hold groups out with --val-share or --fold."
        )


def _check_parts(model: ClassModel, config: TrainConfig) -> None:
    there = {part_of(name) for name, _ in model.named_parameters()}
    if not there & set(config.parts):
        raise BadFileError(
            f"{model.name} has none of the parts that were to be trained "
            f"({', '.join(config.parts)}); it has {', '.join(sorted(p for p in there if p))}."
        )


def _adapted(
    config: TrainConfig,
    given: Mapping[str, Any],
    model: ClassModel,
    images: Sequence[TrainingImage],
) -> TrainConfig:
    """What was not given follows from the model, its device and the images."""
    if isinstance(model, TaskModel) and config.drawn_as != "ours":
        mixed = {"mixed_precision": model.device.type == "cuda"}
        return config.model_copy(update={k: v for k, v in mixed.items() if k not in given})
    sides = np.median([(min(i.shape_yx), max(i.shape_yx)) for i in images], axis=0)
    fixed = model.square
    # On a fixed canvas an image is seen whole; otherwise a part of it teaches as well for less.
    patch_px = sides[1] if fixed else min(256, sides[0])
    wanted: dict[str, Any] = {
        "patch_px": int(min(model.tile_px, max(32, patch_px))),
        "mixed_precision": model.device.type == "cuda",
    }
    if fixed:
        wanted["batch"] = 4
    return config.model_copy(update={k: v for k, v in wanted.items() if k not in given})


def _load(
    sources: Sequence[ClassSource],
    *,
    recipe: ClassRecipe,
    roots: Mapping[str, Path],
    mpp: float,
    store: ImageStore,
    workers: int,
    objects: bool,
    gap_um: float | None,
) -> tuple[list[TrainingImage], set[float]]:
    """The images, and the pixel sizes they came with."""
    found: list[TrainingImage] = []
    mpps: set[float] = set()
    for source in sources:
        samples = source.samples(roots, recipe.classes)
        assumed = source.assumed_mpp or samples[0].nominal_mpp
        mpps.update(sample.mpp or assumed or mpp for sample in samples)
        images = load_images(
            samples,
            recipe.classes,
            mpp=mpp,
            assumed_mpp=assumed,
            sparse=recipe.sparse,
            objects=objects,
            gap_um=gap_um,
            store=store,
            workers=workers,
        )
        if source.composites:
            images = composites(images, source.composites)
        limit = source.largest_foreground
        found += [i for i in images if limit == 1 or i.foreground <= limit]
    if not found:
        raise BadImageError("Every image is left out by largest_foreground; raise it.")
    return found, mpps


def start_model(
    config: PathSamConfig, classes: ClassTable, seed: int = 0, device: str = "auto"
) -> PathSam:
    """An untrained model on the base and the encoder its configuration names.

    Raises
    ------
    BadWeightsError, UnavailableError
        One of them cannot be had, or cannot carry classes.
    """
    from napari_pathsam.models.catalogue import load_model, pick_device

    where = pick_device(device)
    base = load_model(config.base, "cpu")
    if not isinstance(base, Sam2):
        raise BadWeightsError(
            f"{config.base} knows classes already; a new model stands on a promptable one, "
            "such as pathsam-nano."
        )
    encoder = None if config.encoder is None else load_encoder(config.encoder, "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PathSam(config, base, classes, encoder)
    return model.to(where).eval()


def base_of(model: PathSam) -> tuple[BaseWeights, ...]:
    """What a model of :func:`start_model` stands on, by name and checksum."""
    from napari_pathsam.models.catalogue import weights_sha256

    name, encoder = model.config.base, model.pathology
    weights = (BaseWeights(name=name, sha256=weights_sha256(name)),)
    if encoder is None:
        return weights
    return (*weights, BaseWeights(name=encoder.name, sha256=encoder.weights_sha256))
