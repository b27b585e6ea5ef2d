"""Any folder of images with a folder of labels beside it: label images or GeoJSON, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, LabelKind, Pixels, Sample, read_files
from napari_pathsam.datasets.layout import IMAGE_SUFFIXES, checked_folder, images_by_stem
from napari_pathsam.io.annotations import load_annotations, paint
from napari_pathsam.io.images import read_labels, read_rgb

LABEL_ENDINGS = ("", "_anno", "_mask", "_label", "_labels")
"""What a label file's name may add to its image's."""
GEOJSON = (".geojson", ".json")
IMAGES, LABELS, CLASSES = "images", "labels", "classes.csv"
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class GeoJsonLabels:
    """Reads an image and paints the outlines of its GeoJSON file: QuPath's, or ours.

    Where labels are classes, outlines get the ids their classes' names have in ``classes``.
    """

    classes: ClassTable | None

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image, _ = read_rgb(sample.image_path)
        drawn = load_annotations(sample.labels_path)
        if sample.label_kind != "classes" or self.classes is None:
            return image, paint(drawn, (image.shape[0], image.shape[1]))[0]
        strange = sorted(set(drawn.classes.names) - set(self.classes.names))
        unnamed = sum(item.class_name is None for item in drawn.items)
        if strange or unnamed:
            what = f"the classes {', '.join(strange[:5])}" if strange else f"{unnamed} of no class"
            raise BadFileError(
                f"{sample.labels_path} has outlines of {what}, and the class table has "
                f"{', '.join(self.classes.names)}. Add what is missing to the table, or classify "
                "them in QuPath and export again."
            )
        found = replace(drawn, classes=self.classes)
        return image, paint(found, (image.shape[0], image.shape[1]))[1]


def folder_samples(
    images: Path,
    labels: Path,
    *,
    mpp: float | None = None,
    label_kind: LabelKind | None = None,
    classes: ClassTable | None = None,
) -> list[Sample]:
    """Samples of two folders (which may be one): ``NAME.*`` and ``NAME.*`` or ``NAME_anno.*``.

    Parameters
    ----------
    mpp
        Microns per pixel of all images; None when unknown.
    label_kind
        What the ids are; None decides by the files: more than one id in any of them means
        instances, otherwise they are binary. Outlines (GeoJSON) are instances.
    classes
        What classes of outlines are called, and their ids.

    Raises
    ------
    BadFileError
        A folder is missing or empty, an image has no labels or two label files.
    """
    one_folder = images.resolve() == labels.resolve()
    image_paths = images_by_stem(checked_folder(images))
    if one_folder:
        marks = LABEL_ENDINGS[1:]
        image_paths = {s: path for s, path in image_paths.items() if not s.endswith(marks)}
    label_paths = images_by_stem(checked_folder(labels))
    outlines = images_by_stem(labels, suffixes=GEOJSON)
    if not image_paths:
        raise BadFileError(
            f"{images} holds no image; images end in .png, .tif, .jpg, .webp or .bmp."
        )
    pairs = {
        stem: (path, _labels_of(stem, path, label_paths, outlines, labels, one_folder=one_folder))
        for stem, path in image_paths.items()
    }
    kind = label_kind or _kind_of([label for _, label in pairs.values()])
    drawn = any(label.suffix.lower() in GEOJSON for _, label in pairs.values())
    if drawn and kind == "classes" and classes is None:
        raise BadFileError(
            f"{labels} holds outlines, whose classes have names: a table of the classes is needed "
            "(--classes, a CSV with the columns id,name), or --label-kind instances."
        )
    return [
        Sample(
            name=stem,
            group=stem,
            split="all",
            image_path=image,
            labels_path=label,
            mpp=mpp,
            label_kind=kind,
            reader=GeoJsonLabels(classes) if label.suffix.lower() in GEOJSON else read_files,
        )
        for stem, (image, label) in pairs.items()
    ]


def _labels_of(
    stem: str,
    image: Path,
    label_paths: dict[str, Path],
    outlines: dict[str, Path],
    folder: Path,
    *,
    one_folder: bool,
) -> Path:
    endings = LABEL_ENDINGS[1:] if one_folder else LABEL_ENDINGS
    found = [label_paths[stem + end] for end in endings if stem + end in label_paths]
    found += [outlines[stem + end] for end in LABEL_ENDINGS if stem + end in outlines]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(p.name for p in found)
        raise BadFileError(
            f"{image.name} has more than one label file in {folder}: {names}. Leave one of them."
        )
    raise BadFileError(
        f"{image.name} has no labels: {folder} holds no {stem} or {stem}_anno as an image "
        f"({' '.join(IMAGE_SUFFIXES)}) or as .geojson. "
        "Images and labels find each other by their names without suffix; add the labels, "
        "or move the image elsewhere."
    )


def _kind_of(label_paths: list[Path]) -> LabelKind:
    for path in label_paths:
        if path.suffix.lower() in GEOJSON:
            return "instances"
        if np.count_nonzero(np.unique(read_labels(path))) > 1:
            return "instances"
    return "binary"


# --- as a data set --------------------------------------------------------------------------------


def find(root: Path) -> list[Sample]:
    """``images`` and ``labels`` in a folder, or in its parts ``train``, ``val`` and ``test``."""
    classes = class_table(root)
    kind: LabelKind | None = "classes" if classes is not None else None
    if _is_pair(root):
        return folder_samples(root / IMAGES, root / LABELS, label_kind=kind, classes=classes)
    found = []
    for part in PARTS:
        folder = root / part
        if folder.is_dir() and _is_pair(folder):
            here = folder_samples(
                folder / IMAGES, folder / LABELS, label_kind=kind, classes=classes
            )
            found += [replace(s, name=f"{part}/{s.name}", split=part) for s in here]
    return found


def class_table(root: Path) -> ClassTable | None:
    """The classes in ``classes.csv``, where it is there; BadFileError where it is no such table."""
    path = root / CLASSES
    if not path.exists():
        return None
    try:
        return ClassTable.from_csv(path.read_text("utf-8-sig"))
    except (UnicodeDecodeError, BadFileError) as error:
        raise BadFileError(f"{path}: {error}") from error


def _of_root(data: DataSet, root: Path) -> DataSet:
    table = class_table(root)
    data = data.with_splits(part for part in PARTS if _is_pair(root / part))
    if table is None:
        return data
    if [c.id for c in table] != list(range(1, len(table) + 1)):
        raise BadFileError(
            f"{root / CLASSES} has the ids {', '.join(str(c.id) for c in table)}; in a data set "
            "they must be 1, 2, … without a gap. Number the classes anew, and the labels with them."
        )
    return replace(data, classes=table.names, label_kind="classes")


def _is_pair(folder: Path) -> bool:
    return (folder / IMAGES).is_dir() and (folder / LABELS).is_dir()


FOLDER = DataSet(
    name="folder",
    title="a folder of images and labels",
    licence="its owner's",
    citation="none",
    url="none: images of one's own",
    mpp=None,
    label_kind="instances",
    classes=("object",),
    splits=("train", "val", "test"),
    default_split="all",
    expected={},
    layout=(
        "images/NAME.* with labels/NAME.* (label images or GeoJSON), or train/images, "
        "train/labels, val/images … test/labels; classes.csv (id,name) where ids are classes"
    ),
    notes=(
        "Images and labels pair by name. With classes.csv ids are classes; without it more than "
        "one id in a label image means objects. Patients are not known: name parts with care, or "
        "give --group-by, which finds them in the images' names. --mpp says the pixel size."
    ),
    find=find,
    val_split="val",
    of_root=_of_root,
)
