"""The recipe of a model that knows classes: which data, which network, how it is trained."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, what_is_wrong
from napari_pathsam.datasets import dataset, folder_samples, open_dataset
from napari_pathsam.datasets.base import LabelKind, Sample, StainNorm, overriding
from napari_pathsam.datasets.grouping import grouped
from napari_pathsam.models.encoders import find_encoder
from napari_pathsam.models.pathsam_config import PathSamConfig, Profile, profiled
from napari_pathsam.models.task_config import TaskConfig
from napari_pathsam.models.task_recipes import is_task
from napari_pathsam.training.class_config import Preset, TrainConfig, train_profile
from napari_pathsam.training.task_settings import TaskPreset, task_training
from napari_pathsam.training.task_start import task_network


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
        return grouped(found, self.group_by)

    def _class_of(self, sample: Sample) -> str | None:
        """The one class of a homogeneous image."""
        if self.dataset is None or not sample.class_id:
            return None
        return dataset(self.dataset).aiming(self.target).classes[sample.class_id - 1]


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
    used
        Of task-specific models: fields of :class:`TaskConfig` that are others in use than in
        training, such as ``mpp`` and ``zooms``.
    trunk, start
        Of task-specific models: ImageNet weights of the trunk, or a model file to go on from.
    train
        Fields of :class:`TrainConfig` that are not as profile and preset have them.
    sources, validation
        What to train and to validate on; without ``validation`` a share ``val_share`` of the groups
        is held out.
    fold
        ``k/n``: the groups of fold k of n are held out instead of a share of them.
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
    used: dict[str, Any] = {}
    classes: ClassTable
    sources: tuple[ClassSource, ...]
    validation: tuple[ClassSource, ...] = ()
    val_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    fold: Annotated[str, Field(pattern=r"^[1-9]\d?/[1-9]\d?$")] | None = None
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
        elif self.trunk is not None or self.start is not None or self.used:
            raise ValueError(
                "trunk, start and used are for task-specific models, such as unet-timm"
            )
        elif self.preset in get_args(TaskPreset):
            raise ValueError(f"the preset {self.preset} is for task-specific models")
        if self.fold is not None and self.validation:
            raise ValueError("either fold, or images to validate on that are named: not both")
        if (self.fold or (not self.validation and self.val_share)) and self._composed:
            raise ValueError(
                "composites are made of the images of several groups: nothing can be held out of "
                "them. Give images to validate on, or val_share = 0"
            )
        if self.fold is not None and not 1 <= self.fold_of[0] <= self.fold_of[1] > 1:
            raise ValueError(f"fold {self.fold} is none: say 1/3, 2/3 or 3/3 for three folds")
        return self

    @property
    def _composed(self) -> bool:
        return any(source.composites for source in self.sources)

    @property
    def fold_of(self) -> tuple[int, int]:
        """Which fold is held out, of how many."""
        k, n = (self.fold or "1/1").split("/")
        return int(k), int(n)

    def network_config(self) -> PathSamConfig | TaskConfig:
        """The network's configuration."""
        if is_task(self.base):
            return task_network(self.name, self.base, self.profile, self.network)
        encoder = None if self.encoder is None else find_encoder(self.encoder)
        fields = {"name": self.name, "base": self.base, "encoder": encoder}
        return profiled(self.profile, **(fields | self.network))

    def used_config(self, trained: TaskConfig) -> TaskConfig:
        """What was trained, as it is used."""
        return TaskConfig.model_validate(trained.model_dump() | self.used)

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
        network, _ = recipe.network_config(), recipe.train_config()
        if isinstance(network, TaskConfig):
            recipe.used_config(network)
        return recipe
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise BadFileError(
            f"{name_or_path} is not a training recipe: {what_is_wrong(error)}."
        ) from error
