"""Model files of a lesson that go out, and those of others that come in."""

from __future__ import annotations

import shutil
from pathlib import Path

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.workspace.teaching_lesson import Version
from napari_pathsam.workspace.teaching_store import LessonFolder


def copied(source: Path, target: Path) -> Path:
    """Copy a model file, whole or not at all."""
    from napari_pathsam.io._files import replacing

    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def exported(source: Path, target: Path, version: Version) -> Path:
    """Write a version as a model file of the person's own, with its name and note as they are.

    It may be sent to others, so it says neither what the images are called nor where they lie.
    """
    from napari_pathsam.models.model_file import copy_with_provenance, read_card
    from napari_pathsam.training.finetune_file import without_names

    told = without_names(read_card(source).provenance)
    copy_with_provenance(source, target, {**told, "version": version.name, "note": version.note})
    return target


def taken_in(path: Path, folder: LessonFolder, file: str) -> tuple[ClassTable, str]:
    """Copy a model file into the lesson; its classes, and the note that is in it."""
    from napari_pathsam.models.model_file import read_card
    from napari_pathsam.models.pathsam_config import PathSamConfig
    from napari_pathsam.models.task_config import TaskConfig
    from napari_pathsam.training.finetune_networks import check_taught

    card = read_card(path)
    if not isinstance(card.config, PathSamConfig | TaskConfig) or card.classes is None:
        raise BadWeightsError(
            f"{path.name} is a model that answers clicks and knows no classes. Here a model with "
            "classes is wanted, as this dock or `pathsam train` writes."
        )
    if isinstance(card.config, TaskConfig):
        check_taught(card.config, path.name)
    copied(path, folder.file(file))
    return card.classes, str(card.provenance.get("note", ""))


def joined(known: ClassTable, theirs: ClassTable) -> tuple[ClassTable, dict[int, int]]:
    """The table with the classes of a model, by name; and its ids of theirs."""
    for info in theirs:
        if known.find(info.name) is None:
            known = known.with_class(info.name, info.color)
    return known, {info.id: known.find(info.name) or 0 for info in theirs}
