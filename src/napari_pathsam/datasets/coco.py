"""Images with a COCO file: outlines or run lengths of each object, with its class."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import DataSet, LabelKind, Pixels, Sample
from napari_pathsam.datasets.folder import FOLDER
from napari_pathsam.io._files import reading
from napari_pathsam.io._outlines import fill_polygon
from napari_pathsam.io.images import read_rgb

Target = Literal["objects", "classes"]
LABEL_KIND: dict[Target, LabelKind] = {"objects": "instances", "classes": "classes"}
MEMBERS = {"images", "annotations", "categories"}


@dataclass(frozen=True)
class _File:
    """A COCO file: images by id, annotations by image, names of classes by category."""

    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, str]


@dataclass(frozen=True)
class CocoImage:
    """Reads an image and paints its annotations in their order, a later one over an earlier."""

    image_id: int
    target: Target
    classes: tuple[str, ...]

    def __call__(self, sample: Sample) -> Pixels:
        assert sample.labels_path is not None
        image, _ = read_rgb(sample.image_path)
        found = _content(sample.labels_path, sample.labels_path.stat().st_mtime_ns)
        shape_yx = _size(found.images[self.image_id]) or (image.shape[0], image.shape[1])
        labels = np.zeros(shape_yx, np.int32)
        for number, one in enumerate(found.annotations.get(self.image_id, ()), start=1):
            name = found.categories[int(one["category_id"])]
            value = number if self.target == "objects" else 1 + self.classes.index(name)
            for where, inside in _masks(sample.labels_path, one, shape_yx):
                labels[where][inside] = value
        return image, labels


Mask = tuple[tuple[slice, slice], NDArray[np.bool_]]


def _masks(path: Path, annotation: dict[str, Any], shape_yx: tuple[int, int]) -> list[Mask]:
    """Where an annotation is: a mask for each of its outlines, or one of its run lengths."""
    try:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            if tuple(segmentation["size"]) != shape_yx:
                raise ValueError(f"its size is {segmentation['size']}, the image's {shape_yx}")
            everywhere = slice(None), slice(None)
            return [(everywhere, unpacked(segmentation["counts"], shape_yx))]
        rings = [np.array(flat, np.float64).reshape(-1, 2) for flat in segmentation]
    except (KeyError, TypeError, ValueError) as error:
        raise BadFileError(
            f"{path}: annotation {annotation.get('id')} is neither outlines nor run lengths as "
            f"COCO has them ({error}). Export the annotations again."
        ) from error
    filled = (fill_polygon([ring], shape_yx) for ring in rings if len(ring) >= 3)
    return [mask for mask in filled if mask is not None]


def unpacked(counts: list[int] | str | bytes, shape_yx: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask ``(H, W)`` of COCO's run lengths, packed into text or not.

    Runs alternate, beginning with background, down the columns. Packed, a number is written in
    groups of five bits, lowest first, each as a character from ``0`` on; bit 5 says that more
    follow, bit 4 of the last is the sign; from the fourth on a number is the difference to the one
    before the last. Source: the COCO API (cocodataset/cocoapi, maskApi).

    Raises
    ------
    ValueError
        The runs do not add up to the image.
    """
    runs = np.array(_numbers(counts) if isinstance(counts, str | bytes) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != shape_yx[0] * shape_yx[1]:
        pixels = shape_yx[0] * shape_yx[1]
        raise ValueError(f"its runs add up to {runs.sum()} pixels, the image has {pixels}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(shape_yx[::-1]).T


def _numbers(text: str | bytes) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for byte in text.encode("ascii") if isinstance(text, str) else text:
        bits = byte - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        numbers.append(value + numbers[-2] if len(numbers) > 2 else value)
        value = shift = 0
    return numbers


def find(root: Path, target: Target = "objects") -> list[Sample]:
    """Every image of every COCO file in a folder, in its ``annotations``, or in its parts.

    Layout: ``annotations/instances_PART.json`` with images in ``PART``, ``images/PART`` or
    ``images`` (as COCO has it), or a JSON file beside the images of each part. Files of other JSON
    are passed over.
    """
    files = _files(root)
    classes = _classes(files)
    found = []
    for path, content in files.items():
        split = _split(path, root)
        for image_id, image in content.images.items():
            name = str(image["file_name"])
            found.append(
                Sample(
                    name=f"{split}/{name}" if len(files) > 1 else name,
                    group=name,
                    split=split,
                    image_path=_image_path(name, path, root, split),
                    labels_path=path,
                    mpp=None,
                    label_kind=LABEL_KIND[target],
                    reader=CocoImage(image_id, target, classes),
                )
            )
    return found


def _files(root: Path) -> dict[Path, _File]:
    places = [*root.glob("*.json"), *root.glob("*/*.json")]
    return {
        path: _content(path, path.stat().st_mtime_ns) for path in sorted(places) if _is_coco(path)
    }


def _is_coco(path: Path) -> bool:
    """Whether a file's first characters may be a COCO file's; CATCH's is that data set's own."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    named = any(f'"{member}"'.encode() in head for member in MEMBERS | {"info", "licenses"})
    return head.lstrip()[:1] == b"{" and named and path.name != "CATCH.json"


@lru_cache(maxsize=4)
def _content(path: Path, _changed: int) -> _File:
    with reading(path, "a COCO file"):
        content = json.loads(path.read_bytes())
        if lacking := MEMBERS - set(content):
            raise BadFileError(
                f"{path} has no {' and no '.join(sorted(lacking))}, and so is no COCO file."
            )
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        images: dict[int, dict[str, Any]] = {}
        for image in content["images"]:
            if int(image["id"]) in images:
                raise BadFileError(f"{path} has two images of the id {image['id']}.")
            images[int(image["id"])] = image
        annotations: dict[int, list[dict[str, Any]]] = {}
        for one in content["annotations"]:
            if int(one["category_id"]) not in categories or int(one["image_id"]) not in images:
                raise BadFileError(
                    f"{path}: annotation {one.get('id')} is of the category {one['category_id']} "
                    f"on the image {one['image_id']}, of which there is none."
                )
            annotations.setdefault(int(one["image_id"]), []).append(one)
    return _File(images, annotations, categories)


def _classes(files: dict[Path, _File]) -> tuple[str, ...]:
    """Names of classes in the order of their categories; one order for all files."""
    names: dict[int, str] = {}
    for path, content in files.items():
        for number, name in content.categories.items():
            if names.setdefault(number, name) != name:
                raise BadFileError(
                    f"{path} calls category {number} {name!r}, another file {names[number]!r}. "
                    "Number the categories of all files alike."
                )
    return tuple(dict.fromkeys(names[number] for number in sorted(names)))


def _split(path: Path, root: Path) -> str:
    """``train`` of ``instances_train.json``, or the folder's name, or "all"."""
    marked = path.stem.removeprefix("instances_")
    if marked != path.stem:
        return marked
    return path.parent.name if path.parent not in (root, root / "annotations") else "all"


def _image_path(name: str, path: Path, root: Path, split: str) -> Path:
    folders = (path.parent, root, root / "images", root / split, root / "images" / split)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise BadFileError(
        f"{path} lists the image {name}, which is in none of "
        f"{', '.join(str(f) for f in dict.fromkeys(folders))}. Put the images there."
    )


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def _of_root(data: DataSet, root: Path) -> DataSet:
    files = _files(root)
    classes = _classes(files)
    data = data.with_splits(_split(path, root) for path in files)
    return replace(data, classes=classes) if classes and data.label_kind == "classes" else data


_OBJECTS = replace(
    FOLDER,
    name="coco",
    title="images with a COCO file",
    layout=(
        "annotations/instances_train.json with images in train, images/train or images; or a COCO "
        "file beside the images"
    ),
    notes=(
        "Outlines and run lengths, packed or not. By default each object has an id; with --target "
        "classes labels are the categories, in their order, and what is not annotated is "
        "background. Patients are not known: give --group-by, which finds them in the images' "
        "names. --mpp says the pixel size."
    ),
    find=find,
    of_root=_of_root,
)
_CLASSES = replace(_OBJECTS, label_kind="classes", find=partial(find, target="classes"))
COCO = replace(_OBJECTS, targets={"objects": _OBJECTS, "classes": _CLASSES})
