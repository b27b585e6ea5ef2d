"""Label maps → COCO: one JSON file for any number of images, objects as run lengths (RLE).

Format: https://cocodataset.org/#format-data. Run lengths alternate, beginning with background, down
the columns, and are packed into text as the COCO API packs them, so ``pycocotools`` reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io._files import replacing


@dataclass(frozen=True)
class LabelledImage:
    """The objects of one image.

    Attributes
    ----------
    file_name
        Of the image, as the COCO file names it.
    instances
        ``(H, W)`` ids; 0 is background.
    class_of
        Class id of each object id; an object without one is of the first class.
    """

    file_name: str
    instances: NDArray[np.integer]
    class_of: Mapping[int, int]


def write_coco(
    path: str | os.PathLike[str], images: Iterable[LabelledImage], classes: ClassTable
) -> int:
    """Write every object of every image; returns how many objects there are.

    Raises
    ------
    BadImageError, BadFileError
        A label map is not of whole numbers, a class is not in the table, a name comes twice.
    """
    path = Path(path)
    known = {info.id for info in classes}
    if not known:
        raise BadFileError("COCO wants a category for each object, and the class table is empty.")
    told: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        if any(image.file_name == other["file_name"] for other in told):
            raise BadFileError(f"Two images are called {image.file_name}; rename one of them.")
        labels = _checked(image)
        height, width = labels.shape
        told.append(
            {"id": image_id, "file_name": image.file_name, "height": height, "width": width}
        )
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            if box is None:
                continue
            category = image.class_of.get(index, min(known))
            if category not in known:
                raise BadFileError(
                    f"Object {index} of {image.file_name} is of class {category}; the class table "
                    f"has {', '.join(f'{i.id} {i.name}' for i in classes)}."
                )
            annotations.append(
                _annotation(labels, index, box)
                | {"id": len(annotations) + 1, "image_id": image_id, "category_id": category}
            )
    document = {
        "images": told,
        "annotations": annotations,
        "categories": [{"id": info.id, "name": info.name} for info in classes],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return len(annotations)


def packed(runs: Iterable[int]) -> str:
    """Run lengths as the COCO API's text: groups of five bits, differences from the fourth on.

    Source: cocodataset/cocoapi, maskApi.
    """
    given = [int(r) for r in runs]
    text = []
    for i, run in enumerate(given):
        rest = run - given[i - 2] if i > 2 else run
        more = True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != -1 if bits & 16 else rest != 0
            text.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(text)


def _annotation(
    labels: NDArray[np.int64], index: int, box: tuple[slice, slice]
) -> dict[str, Any]:  # fmt: skip
    rows, columns = box
    inside = labels[box] == index
    xs, ys = np.nonzero(inside.T)
    flat = (xs + columns.start) * labels.shape[0] + ys + rows.start
    starts = np.flatnonzero(np.diff(flat, prepend=-2) != 1)
    ends = np.r_[starts[1:], len(flat)] - 1
    edges = np.stack([flat[starts], flat[ends] + 1], axis=1).ravel()
    runs = np.diff(edges, prepend=0, append=labels.size)
    runs = runs[:-1] if runs[-1] == 0 else runs
    return {
        "segmentation": {"size": list(labels.shape), "counts": packed(runs.tolist())},
        "area": int(np.count_nonzero(inside)),
        "bbox": [
            columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        ],
        "iscrowd": 0,
    }  # fmt: skip


def _checked(image: LabelledImage) -> NDArray[np.int64]:
    labels = np.asarray(image.instances)
    if labels.ndim != 2 or labels.dtype.kind not in "biu" or (labels.size and labels.min() < 0):
        raise BadImageError(
            f"The objects of {image.file_name} are {labels.dtype} of the shape {labels.shape}; "
            "whole numbers from 0 on, (H, W), can be written."
        )
    return labels.astype(np.int64)
