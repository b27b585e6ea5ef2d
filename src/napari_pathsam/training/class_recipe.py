"""From a recipe to a model that knows classes: data sets in, one model file out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self, cast, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError, BadWeightsError
from napari_pathsam.core.metrics import dice_per_class, iou_per_class
from napari_pathsam.datasets import dataset, folder_samples, open_dataset
from napari_pathsam.datasets.base import LabelKind, Sample, StainNorm, overriding
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.encoders import find_encoder, load_encoder
from napari_pathsam.models.head_file import save_head
from napari_pathsam.models.model_file import BaseWeights, ModelCard
from napari_pathsam.models.pathsam import PathSam, part_of
from napari_pathsam.models.pathsam_config import Part, PathSamConfig, Profile, profiled
from napari_pathsam.models.sam2 import Sam2
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.models.task_recipes import is_task
from napari_pathsam.training.class_config import Preset, TrainConfig, train_profile
from napari_pathsam.training.class_extras import blank_glass, composites
from napari_pathsam.training.class_fit import count_images
from napari_pathsam.training.class_images import ImageStore, TrainingImage, load_images
from napari_pathsam.training.class_report import Validation
from napari_pathsam.training.class_split import split_by_group
from napari_pathsam.training.class_trainer import wants_objects
from napari_pathsam.training.task_settings import TaskPreset, task_training
from napari_pathsam.training.task_start import stands_on, start_task, task_network


class ClassSource(BaseModel):
    """Labelled images: a data set by name, or two folders.

    ``mpp`` is the pixel size of all of them, ``assumed_mpp`` of those that do not say theirs;
    images with a larger share of labelled pixels than ``largest_foreground`` are left out; what
    matches ``group_by`` in an image's name is its group (patient, slide, case). With ``background``
    only images of these classes of the data set are taken, and all of each is background: tissue
    without what the model looks for. ``stain_norm`` brings all stains to a common look; what
    learned from such images wants such images. With ``composites`` so many images are put together
    from them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str | None = None
    target: str | None = None
    split: str | None = None
    images: Path | None = None
    labels: Path | None = None
    label_kind: LabelKind | None = None
    mpp: Annotated[float, Field(gt=0)] | None = None
    assumed_mpp: Annotated[float, Field(gt=0)] | None = None
    largest_foreground: Annotated[float, Field(gt=0, le=1)] = 1.0
    group_by: str | None = None
    stain_norm: StainNorm | None = None
    background: tuple[str, ...] = ()
    composites: Annotated[int, Field(ge=0)] = 0

    @property
    def name(self) -> str:
        """The data set's name, or the folder of images."""
        return self.dataset or str(self.images)

    def samples(self, roots: Mapping[str, Path], classes: ClassTable) -> list[Sample]:
        """Its samples; BadFileError where a folder is missing or not what it should be."""
        kind = self.label_kind
        if self.dataset is not None:
            if self.dataset not in roots:
                raise BadFileError(
                    f"The recipe trains on {self.dataset}: say where it lies with "
                    f"--root {self.dataset}=FOLDER. `pathsam datasets info {self.dataset}` says "
                    "where to get it."
                )
            found = open_dataset(self.dataset, roots[self.dataset], self.split, target=self.target)
        elif self.images is not None and self.labels is not None:
            kind = kind or ("classes" if len(classes) > 1 else None)
            found = folder_samples(self.images, self.labels, label_kind=kind, classes=classes)
        else:
            raise BadFileError("A source of images needs a data set, or a folder of images and one "
                               "of labels.")  # fmt: skip
        found = overriding(found, mpp=self.mpp, label_kind=kind, stain_norm=self.stain_norm)
        if self.background:
            found = [replace(s, class_id=0) for s in found if self._class_of(s) in self.background]
        return [replace(s, group=_group(s.name, self.group_by) or s.group) for s in found]

    def _class_of(self, sample: Sample) -> str | None:
        """The one class of a homogeneous image."""
        if self.dataset is None or not sample.class_id:
            return None
        return dataset(self.dataset).aiming(self.target).classes[sample.class_id - 1]


def _group(name: str, pattern: str | None) -> str | None:
    found = re.search(pattern, name) if pattern else None
    return found[0] if found else None


class ClassRecipe(BaseModel):
    """All a training run needs but the folders.

    Attributes
    ----------
    name
        Of the model that comes out.
    base, encoder
        Catalogue names of the promptable model and of the pathology encoder beside it; or ``base``
        is a task-specific model (``unet``), which has no encoder.
    preset
        How long, or the settings of a paper (:mod:`~napari_pathsam.training.task_settings`).
    network
        Fields of :class:`PathSamConfig` or :class:`TaskConfig` that are not as the profile has
        them; ``mpp`` is needed.
    trunk, start
        Of task-specific models: ImageNet weights of the trunk, or a model file to go on from.
    train
        Fields of :class:`TrainConfig` that are not as profile and preset have them.
    sources, validation
        What to train and to validate on; without ``validation`` a share ``val_share`` of the groups
        is held out.
    sparse
        Whether what is not labelled is not known, instead of background.
    glass
        How many pictures of blank glass are added.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: str = "pathsam-nano"
    encoder: str | None = None
    profile: Profile = "recommended"
    preset: Preset | TaskPreset | None = None
    network: dict[str, Any] = {}
    classes: ClassTable
    sources: tuple[ClassSource, ...]
    validation: tuple[ClassSource, ...] = ()
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    sparse: bool = False
    glass: Annotated[int, Field(ge=0)] = 0
    trunk: Path | None = None
    start: Path | None = None
    train: dict[str, Any] = {}
    licence: str
    attribution: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if is_task(self.base):
            if self.encoder is not None:
                raise ValueError(f"{self.base} has no pathology encoder beside it")
        elif self.trunk is not None or self.start is not None:
            raise ValueError("trunk and start are for task-specific models, such as unet-timm")
        elif self.preset in get_args(TaskPreset):
            raise ValueError(f"the preset {self.preset} is for task-specific models")
        return self

    def network_config(self) -> PathSamConfig | TaskConfig:
        """The network's configuration."""
        if is_task(self.base):
            return task_network(self.name, self.base, self.profile, self.network)
        encoder = None if self.encoder is None else find_encoder(self.encoder)
        fields = {"name": self.name, "base": self.base, "encoder": encoder}
        return profiled(self.profile, **(fields | self.network))

    def train_config(self) -> TrainConfig:
        """The training settings."""
        if is_task(self.base):
            return task_training(self.base, self.profile, self.preset, self.train)
        return train_profile(self.profile, cast("Preset | None", self.preset), **self.train)


def recipe_file(name_or_path: str) -> str | None:
    """The text of a packaged recipe by name, or of one of the user's by path; None: there is none.

    ``pathsam-nano:glands`` and ``pathsam-nano-glands`` are both ``pathsam_nano_glands.toml``.
    """
    packaged = files("napari_pathsam.training") / f"{re.sub('[-:]', '_', name_or_path)}.toml"
    source = packaged if packaged.is_file() else Path(name_or_path)
    return source.read_text("utf-8") if source.is_file() else None


def read_class_recipe(name_or_path: str) -> ClassRecipe | None:
    """A recipe of a model that knows classes; None when it is none, or is for prompts.

    In the file classes may be a list of names. Raises BadFileError where fields are wrong.
    """
    try:
        content = tomllib.loads(recipe_file(name_or_path) or "")
        if "classes" not in content:
            return None
        if isinstance(names := content["classes"], list) and all(isinstance(n, str) for n in names):
            content["classes"] = ClassTable.of(*names)
        recipe = ClassRecipe.model_validate(content)
        recipe.network_config(), recipe.train_config()
        return recipe
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadFileError(f"{name_or_path} is not a training recipe: {error}") from error


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
    images = load(recipe.sources)
    images += blank_glass(recipe.glass, model.config.mpp)
    if recipe.validation:
        validation = load(recipe.validation)
    else:
        images, validation = split_by_group(images, recipe.val_share, config.seed)
    config = _adapted(config, recipe.train, model, images)
    if config.patch_px > model.tile_px:
        raise BadFileError(
            f"Patches of {config.patch_px} px are more than {model.name} sees at once "
            f"({model.tile_px} px at {model.config.mpp} µm). Make patch_px smaller."
        )
    base = stands_on(model, **told) if isinstance(model, TaskModel) else base_of(model)
    return Prepared(recipe, model, config, images, validation, base)


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
) -> list[TrainingImage]:
    found = []
    for source in sources:
        samples = source.samples(roots, recipe.classes)
        assumed = source.assumed_mpp or samples[0].nominal_mpp
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
    return found


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


def metrics_of(model: ClassModel, images: Sequence[TrainingImage]) -> dict[str, Any]:
    """Figures over images, from pooled counts: of the foreground, of each class, their mean."""
    found = Validation(count_images(model, images))
    dice, iou = dice_per_class(found.counts)[1:], iou_per_class(found.counts)[1:]
    each = zip(model.classes.names, dice, iou, strict=True)
    return {
        "n_images": len(images),
        "dice": found.dice,
        "iou": found.iou,
        "macro_dice": found.macro_dice,
        "per_class": {name: {"dice": float(d), "iou": float(i)} for name, d, i in each if d == d},
    }


def write_model(prepared: Prepared, out: Path, config: TrainConfig, *, epochs: int) -> ModelCard:
    """The parts of a model that ``config`` trained, as a file whose card says where from."""
    recipe, model = prepared.recipe, prepared.model
    dtype = torch.float32 if config.precision == "single" else torch.float16
    _round(model, config.parts, dtype)  # what is measured is what is in the file
    groups = sorted({image.group for image in prepared.validation})
    provenance = {
        "recipe": recipe.model_dump(mode="json"),
        "train": config.model_dump(mode="json"),
        "data": [source.name for source in recipe.sources],
        "split": {
            "n_images": len(prepared.images),
            "n_validation": len(prepared.validation),
            "validation_groups": groups,
            "seed": config.seed,
        },
        "epochs": epochs,
        "metrics": metrics_of(model, prepared.validation) if prepared.validation else {},
        "versions": {name: version(name) for name in ("torch", "timm", "sam2", "napari-pathsam")},
        "date": datetime.now(UTC).date().isoformat(),
    }
    card = {"licence": recipe.licence, "base": prepared.base, "provenance": provenance}
    if isinstance(model, TaskModel):
        return save_task(out, model, card, dtype=dtype)
    return save_head(out, model, card, trained=config.parts, dtype=dtype)


@torch.no_grad()
def _round(model: ClassModel, parts: tuple[Part, ...], dtype: torch.dtype) -> None:
    for name, tensor in model.state_dict().items():
        if part_of(name) in parts and tensor.is_floating_point():
            tensor.copy_(tensor.to(dtype))


def state_file(out: Path) -> Path:
    """Where an unfinished run of this model file keeps its state."""
    return out.with_suffix(".state.pt")
