"""The labelled images a command measures on: a published data set's, or a folder's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets import LabelKind, Sample

    Labelled = tuple[dict[str, str], list[Sample], ClassTable | None]
    """What a report says of the data, the samples, and what their labels mean."""


GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Regular expression that finds the patient in an image's name: intervals are over "
        "patients, and a split that parts one is refused, but for a data set's official split. "
        "[the data set's]",
    ),
]


def labelled_images(
    dataset: str | None,
    root: Path | None,
    split: str | None,
    target: str | None,
    images: Path | None,
    labels: Path | None,
    classes: Path | None,
    kind: LabelKind | None,
    group_by: str | None = None,
) -> Labelled:
    """What a report says of the data, the samples, and what their labels mean.

    ``group_by`` finds the patient in an image's name.

    Raises
    ------
    BadParameter
        Neither a data set nor two folders were given, or both.
    """
    if dataset is not None and root is not None and images is None and labels is None:
        if classes is not None:
            raise typer.BadParameter("a data set knows its classes.", param_hint="--classes")
        return _published(dataset, root, split, target, group_by)
    if images is not None and labels is not None and dataset is None and root is None:
        for given, option in ((split not in (None, "all"), "--split"), (target, "--target")):
            if given:
                raise typer.BadParameter("a folder of images has none.", param_hint=option)
        named = None if classes is None else class_table(classes)
        from napari_pathsam.datasets.grouping import grouped

        data, samples = _folders(images, labels, kind, named)
        return data, grouped(samples, group_by), named
    raise typer.BadParameter(
        "give either --dataset and --root, or --images and --labels.",
        param_hint="--dataset / --images",
    )


def _published(
    name: str, root: Path, split: str | None, target: str | None, group_by: str | None
) -> tuple[dict[str, str], list[Sample], ClassTable]:
    """What a report says of a data set, its samples, and what their labels mean."""
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets import dataset
    from napari_pathsam.datasets.grouping import grouping

    found = grouping(dataset(name, target, root), group_by)
    samples = found.samples(root, split)
    said = {"dataset": found.name, "split": split or found.default_split}
    return said, samples, ClassTable.of(*found.classes)


def _folders(
    images: Path, labels: Path, kind: LabelKind | None, named: ClassTable | None
) -> tuple[dict[str, str], list[Sample]]:
    from napari_pathsam.datasets import folder_samples

    return {"dataset": images.name, "split": "all"}, folder_samples(
        images, labels, label_kind=kind, classes=named
    )


def class_table(path: Path) -> ClassTable:
    """The classes of a CSV id,name,color; BadFileError names the file."""
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.core.errors import BadFileError

    try:
        table = ClassTable.from_csv(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, BadFileError) as error:
        raise BadFileError(f"{path}: {error}") from error
    if not table.classes:
        raise BadFileError(f"{path} lists no class; a CSV with the columns id,name is wanted.")
    return table


def ids_are_classes(samples: list[Sample], classes: ClassTable) -> list[Sample]:
    """Where there are several classes, the ids of a folder's labels are taken for classes."""
    if len(classes) < 2:
        return samples
    return [replace(sample, label_kind="classes") for sample in samples]
