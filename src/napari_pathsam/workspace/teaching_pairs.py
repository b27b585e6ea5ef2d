"""Images with what was painted on them: open layers (through the dock), or files of a folder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace.teaching_objects import (
    LAST_CLASS,
    OBJECTS_CLASS,
    Ids,
    all_ids,
    are_objects,
    as_one_class,
    may_be_objects,
)
from napari_pathsam.workspace.teaching_store import Strokes, file_key, image_of

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_run import FineTuneImage

GEOJSON = (".geojson", ".geojson.gz", ".json")
LABEL_ENDINGS = ("", "_anno", "_mask", "_label", "_labels")


class Pair(Protocol):
    """An image and what was painted on it; a snapshot that a worker can read.

    ``key`` names the pixels; ``path`` is the image's file, where it has one.
    """

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def labels_name(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def mpp(self) -> float | None: ...
    def tiles(self) -> Any:
        """The pixels, as ``inference.class_maps.TileSource``."""

    def painted(self, classes: ClassTable) -> Strokes:
        """Class ids; slow, in a worker."""

    def held_out(self, classes: ClassTable) -> NDArray[np.integer] | None:
        """Ids that are only scored on, over the same pixels as :meth:`painted`."""


@dataclass(frozen=True)
class FilePair:
    """An image file with a label image or GeoJSON.

    ``objects``: whether its ids are objects, all of one class, and no classes; None: nobody asks.
    """

    image: Path
    labels: Path
    mpp_given: float | None = None
    objects: bool | None = None

    @property
    def has_ids(self) -> bool:
        """Whether it is a label image, which names no classes."""
        return not self.labels.name.lower().endswith(GEOJSON)

    @property
    def key(self) -> str:
        return file_key(self.image)

    @property
    def name(self) -> str:
        return self.image.name

    @property
    def labels_name(self) -> str:
        return self.labels.name

    @property
    def path(self) -> Path | None:
        return self.image

    @property
    def mpp(self) -> float | None:
        return self.mpp_given or self.tiles().mpp

    def tiles(self) -> Any:
        from napari_pathsam.io.slides import open_slide

        return open_slide(self.image)

    def painted(self, classes: ClassTable) -> Strokes:
        shape_yx = self.tiles().shape_yx
        if not self.has_ids:
            return _of_geojson(self.labels, shape_yx, classes)
        labels = _ids_in(self.labels)
        if labels.shape != shape_yx:
            raise BadImageError(
                f"{self.labels.name} has {labels.shape[0]} × {labels.shape[1]} pixels and "
                f"{self.image.name} {shape_yx[0]} × {shape_yx[1]}: labels have the size of their "
                "image. Export them again at full size."
            )
        return Strokes(as_one_class(labels, classes) if self.objects else labels)

    def held_out(self, classes: ClassTable) -> NDArray[np.integer] | None:
        return None


def _ids_in(path: Path) -> NDArray[np.integer]:
    """A label image; a mask, of nothing but 0 and 255, holds one class, 1."""
    from napari_pathsam.io.images import read_labels

    labels = read_labels(path)
    marked = labels == UNSURE
    return marked.astype(np.uint8) if marked.any() and not labels[~marked].any() else labels


def _of_geojson(path: Path, shape_yx: tuple[int, int], classes: ClassTable) -> Strokes:
    """The polygons' classes, by name, over the region they reach."""
    from napari_pathsam.io.annotations import load_annotations, paint

    found = load_annotations(path)
    y0, x0, y1, x1 = found.extent_yx()
    at = Region(int(y0), int(x0), max(1, int(y1 - y0)), max(1, int(x1 - x0)))
    region = at.intersection(Region.of(shape_yx))
    if region is None:
        raise BadImageError(
            f"The polygons of {path.name} lie outside their image of {shape_yx[0]} × "
            f"{shape_yx[1]} pixels. Is it the right file, exported in pixels of the full size?"
        )
    _, class_map, theirs = paint(found, region.shape_yx, offset_yx=(region.y, region.x))
    ids = np.zeros(256, np.uint8)
    for info in theirs:
        ids[info.id] = classes.find(info.name) or 0
    return Strokes(ids[class_map], region)


def pairs_in_folder(folder: Path, mpp: float | None = None) -> tuple[FilePair, ...]:
    """Images of a folder with labels beside them or in a folder ``labels``.

    ``NAME_labels.png``, ``NAME.geojson`` …; images without are left out, and BadFileError is
    raised where all are.
    """
    from napari_pathsam.datasets.base import checked_folder, images_by_stem

    images = images_by_stem(checked_folder(folder))
    beside = dict(images)
    elsewhere: dict[str, Path] = {}
    for name in ("labels", "masks", "annotations"):
        if (folder / name).is_dir():
            elsewhere |= images_by_stem(folder / name) | _geojson_in(folder / name)
    beside |= {f"{stem}\0": path for stem, path in _geojson_in(folder).items()}
    pairs = []
    for stem, image in images.items():
        own = [elsewhere.get(stem + end) for end in LABEL_ENDINGS]
        own += [beside.get(stem + end) for end in LABEL_ENDINGS[1:]] + [beside.get(f"{stem}\0")]
        labels = next((p for p in own if p is not None), None)
        if labels is not None and not stem.endswith(LABEL_ENDINGS[1:]):
            pairs.append(FilePair(image, labels, mpp))
    if not pairs:
        raise BadFileError(
            f"{folder} holds no image with labels. Labels are called as their image is: "
            "NAME_labels.png or NAME.geojson beside NAME.tif, or NAME.png in a folder “labels”."
        )
    return tuple(pairs)


def _geojson_in(folder: Path) -> dict[str, Path]:
    files = [p for p in sorted(folder.iterdir()) if p.name.lower().endswith(GEOJSON[:2])]
    return {p.name[: p.name.lower().rindex(".geojson")]: p for p in files}


def read_folder(
    folder: Path, mpp: float | None, classes: ClassTable, avoid: Collection[int] = ()
) -> tuple[tuple[FilePair, ...], ClassTable]:
    """Images of a folder with labels, and the table with their classes; in a worker.

    Its ``classes.csv`` names ids; without it they may be objects (:func:`told_apart`).
    """
    from napari_pathsam.datasets.folder import class_table

    pairs, names = pairs_in_folder(folder, mpp), class_table(folder)
    pairs = pairs if names else told_apart(pairs, classes)
    return pairs, classes_of_files(pairs, classes, names=names, avoid=avoid)


def told_apart(pairs: Iterable[FilePair], classes: ClassTable) -> tuple[FilePair, ...]:
    """The pairs, and whether the ids of their label images are objects: of all or of none.

    Ids that are known classes are none.
    """
    pairs = tuple(pairs)
    found = [Ids.of(_ids_in(p.labels)) for p in pairs if p.has_ids]
    if not may_be_objects(found):
        return pairs
    objects = not all_ids(found) <= {c.id for c in classes} and are_objects(found)
    return tuple(replace(p, objects=objects) if p.has_ids else p for p in pairs)


def classes_of_files(
    pairs: Iterable[FilePair], classes: ClassTable, *,
    names: ClassTable | None = None, avoid: Collection[int] = (),
) -> ClassTable:  # fmt: skip
    """The table with the classes it lacks: names in GeoJSON, ids in label images, objects.

    ``names`` are of ids; ``avoid``: ids that objects do not get.

    Raises
    ------
    BadImageError
        There are more ids than there can be classes, and somebody said that they are.
    """
    from napari_pathsam.io.annotations import load_annotations

    called, colors = {c.id: c.name for c in names or ()}, {c.id: c.color for c in names or ()}
    for pair in pairs:
        if not pair.has_ids:
            for info in load_annotations(pair.labels).classes:
                if classes.find(info.name) is None:
                    classes = classes.with_class(info.name, info.color)
        elif pair.objects:
            if classes.find(OBJECTS_CLASS) is None:
                classes = classes.with_class(OBJECTS_CLASS, avoid=avoid)
        else:
            ids = np.unique(_ids_in(pair.labels))
            if pair.objects is False and ids.max(initial=0) > UNSURE:
                raise BadImageError(
                    f"{pair.labels.name} has ids up to {ids.max():,}, and a lesson at most "
                    f"{LAST_CLASS} classes: these are objects."
                )
            classes = with_ids(classes, ids, called, colors)
    return classes


def with_ids(
    classes: ClassTable, ids: Iterable[Any], names: Mapping[int, str] | None = None,
    colors: Mapping[int, str] | None = None,
) -> ClassTable:  # fmt: skip
    """The table with a class for each of these ids (0 and 255 are none)."""
    from napari_pathsam.core.classes import PALETTE, ClassInfo

    listed = list(classes)
    taken = {name.casefold() for name in classes.names}
    for class_id in sorted({int(i) for i in ids} - {c.id for c in listed} - {0, 255}):
        if not 1 <= class_id <= 254:
            continue
        name = (names or {}).get(class_id) or f"Class {class_id}"
        while name.casefold() in taken:
            name += "′"
        taken.add(name.casefold())
        color = (colors or {}).get(class_id) or PALETTE[(class_id - 1) % len(PALETTE)]
        listed.append(ClassInfo(id=class_id, name=name, color=color))
    return ClassTable(classes=tuple(sorted(listed, key=lambda c: c.id)))


def finetune_images(pairs: Iterable[Pair], classes: ClassTable) -> list[FineTuneImage]:
    """What the library trains on: everything is read now, and later strokes do not count."""
    from napari_pathsam.training.finetune_run import FineTuneImage

    found = []
    for pair in pairs:
        strokes = pair.painted(classes)
        if not strokes.labels.any():
            continue
        found.append(
            FineTuneImage(
                source=pair.tiles(), labels=strokes.labels, mpp=pair.mpp, name=pair.name,
                key=pair.key, path=pair.path, labels_at=strokes.at, held_out=pair.held_out(classes),
                group=image_of(pair.key),
            )
        )  # fmt: skip
    if not found:
        raise BadImageError(
            "Nothing is painted yet. Choose a class in the table, paint a few regions of it on the "
            "image, do the same for the other classes, and press Train."
        )
    return found
