"""Any folder of images with a folder of label images beside it, paired by name."""

from __future__ import annotations

from pathlib import Path

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import LabelKind, Sample
from napari_pathsam.datasets.layout import checked_folder, images_by_stem

LABEL_ENDINGS = ("", "_anno", "_mask", "_label", "_labels")
"""What a label image's name may add to its image's."""


def folder_samples(
    images: Path,
    labels: Path,
    *,
    mpp: float | None = None,
    label_kind: LabelKind | None = None,
) -> list[Sample]:
    """Samples of two folders (which may be one): ``NAME.*`` and ``NAME.*`` or ``NAME_anno.*``.

    Parameters
    ----------
    mpp
        Microns per pixel of all images; None when unknown.
    label_kind
        What the ids are; None decides by the files: more than one id in any of them means
        instances, otherwise they are binary.

    Raises
    ------
    BadFileError
        A folder is missing or empty, an image has no labels or two label images.
    """
    one_folder = images.resolve() == labels.resolve()
    image_paths = images_by_stem(checked_folder(images))
    if one_folder:
        marks = LABEL_ENDINGS[1:]
        image_paths = {s: path for s, path in image_paths.items() if not s.endswith(marks)}
    label_paths = images_by_stem(checked_folder(labels))
    if not image_paths:
        raise BadFileError(
            f"{images} holds no image; images end in .png, .tif, .jpg, .webp or .bmp."
        )
    pairs = {
        stem: (path, _labels_of(stem, path, label_paths, labels, one_folder=one_folder))
        for stem, path in image_paths.items()
    }
    kind = label_kind or _kind_of([label for _, label in pairs.values()])
    return [
        Sample(
            name=stem,
            group=stem,
            split="all",
            image_path=image,
            labels_path=label,
            mpp=mpp,
            label_kind=kind,
        )
        for stem, (image, label) in pairs.items()
    ]


def _labels_of(
    stem: str, image: Path, label_paths: dict[str, Path], folder: Path, *, one_folder: bool
) -> Path:
    endings = LABEL_ENDINGS[1:] if one_folder else LABEL_ENDINGS
    found = [label_paths[stem + end] for end in endings if stem + end in label_paths]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(p.name for p in found)
        raise BadFileError(
            f"{image.name} has more than one label image in {folder}: {names}. Leave one of them."
        )
    raise BadFileError(
        f"{image.name} has no labels: {folder} holds no image called {stem} or {stem}_anno. "
        "Images and labels find each other by their names without suffix; add the label image, "
        "or move the image elsewhere."
    )


def _kind_of(label_paths: list[Path]) -> LabelKind:
    import numpy as np

    from napari_pathsam.io.images import read_labels

    for path in label_paths:
        ids = np.unique(read_labels(path))
        if np.count_nonzero(ids) > 1:
            return "instances"
    return "binary"
