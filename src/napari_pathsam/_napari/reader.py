"""Open with napari: slides as lazy pyramids in µm, and QuPath's GeoJSON as labels layers.

Only what napari itself does not open well is taken: pyramidal TIFF and OME-TIFF, RGB OME-TIFF
with a pixel size, Aperio SVS and the formats of OpenSlide, RGB OME-Zarr (a folder, or an address
that was asked for), and anything RGB with more than 16,384 pixels a side. Plain TIFFs stay
napari's own: for them the answer is None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pathsam._napari.label_colors import class_colormap
from napari_pathsam._napari.layer_source import OWN
from napari_pathsam._napari.outline_pyramids import outline_pyramids
from napari_pathsam.core.errors import BadFileError, BadImageError
from napari_pathsam.io.images import LARGEST_SIDE_PX

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_pathsam.io.annotations import Annotations

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str], list[LayerData]]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf")
GEOJSON_SUFFIXES = (".geojson", ".geojson.gz")
LONG_BYTES = 40_000_000
"""Outlines of a slide that take more than this are painted from the disk."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """The function that reads this path, or None when it is better left to another reader."""
    from napari_pathsam.io._ngff import address_of, is_rgb, is_zarr

    if not isinstance(path, str):
        if len(path) != 1:
            return None
        path = path[0]
    if address_of(path) is not None:
        return read_slide
    name = Path(path).name.lower()
    if name.endswith(GEOJSON_SUFFIXES):
        return read_annotations
    if Path(path).is_dir():
        return read_slide if is_zarr(Path(path)) and is_rgb(Path(path)) else None
    if name.endswith(TIFF_SUFFIXES):
        return read_slide if _better_here(Path(path)) else None
    if name.endswith(".dcm"):
        return read_slide if _is_openslides(Path(path)) else None
    return read_slide


def _is_openslides(path: Path) -> bool:
    """Whether OpenSlide knows a file as a slide; most DICOM is something else."""
    try:
        import openslide
    except (ImportError, OSError):
        return False
    return openslide.OpenSlide.detect_format(path) is not None


def _better_here(path: Path) -> bool:
    """Whether a TIFF is more than a plain one."""
    from napari_pathsam.io._files import starts_as_tiff
    from napari_pathsam.io._tiff import is_rgb_with_pixel_size
    from napari_pathsam.io.slides import open_slide

    try:
        if not starts_as_tiff(path):
            return False
        slide = open_slide(path)
    except (BadFileError, BadImageError):  # napari says what it thinks of these
        return False
    slide.close()
    large = max(slide.shape_yx) > LARGEST_SIDE_PX
    return slide.stored_levels > 1 or large or is_rgb_with_pixel_size(path)


def read_slide(path: str | Sequence[str]) -> list[LayerData]:
    """A slide as one lazy multiscale RGB layer, in µm when its pixel size is known."""
    from napari_pathsam.io.slides import open_slide

    path = path if isinstance(path, str) else path[0]
    slide = open_slide(path)
    pyramid = slide.pyramid()
    where = path if slide.path is None else str(slide.path.resolve())
    options: dict[str, Any] = {
        "name": slide.name,
        "rgb": True,
        "multiscale": len(pyramid) > 1,
        "contrast_limits": (0, 255),
        "cache": False,  # napari's takes a quarter of the machine's memory; the pyramid has its own
        "metadata": {"path": where, "mpp": slide.mpp},
        **_frame_of_mpp(slide.mpp),
    }
    return [(pyramid if len(pyramid) > 1 else pyramid[0], options, "image")]


def _frame_of_mpp(mpp: float | None, offset_yx: tuple[float, float] = (0, 0)) -> dict[str, Any]:
    scale, units = (1.0, "pixel") if mpp is None else (float(mpp), "um")
    translate = tuple(scale * at for at in offset_yx)
    return {"scale": (scale, scale), "translate": translate, "units": (units, units)}


# --- annotations ---------------------------------------------------------------------------------


def read_annotations(path: str | Sequence[str]) -> list[LayerData]:
    """GeoJSON as a labels layer of objects and, when there are classes, one of classes.

    The coordinates are pixels of an image that a reader is not told of. It is taken to be the
    active image layer of the viewer (or the topmost 2D one): the labels get its shape and place.
    Without one they get the size and pixel size that files written by us name, or else just hold
    the polygons, in pixels. Above 16,384 pixels a side they hold the polygons only, and, when
    those reach still further or are many, they are read-only pyramids.
    """
    from napari_pathsam.io.annotations import load_annotations, paint

    path = path if isinstance(path, str) else path[0]
    image = _image_in_view()
    shape_yx = None if image is None else _shape_of(image)
    if shape_yx is not None and max(shape_yx) > LARGEST_SIDE_PX and _is_long(path):
        return outline_pyramids(Path(path), shape_yx, _frame(None, image, (0, 0)))
    annotations = load_annotations(path)
    shape_yx = shape_yx or annotations.shape_yx
    y0, x0, y1, x1 = _extent(annotations, shape_yx)
    if max(y1 - y0, x1 - x0) > LARGEST_SIDE_PX:
        frame = _frame(annotations.mpp, image, (0, 0))
        return outline_pyramids(Path(path), shape_yx or (y1, x1), frame)
    instances, class_map, classes = paint(annotations, (y1 - y0, x1 - x0), offset_yx=(y0, x0))
    frame = _frame(annotations.mpp, image, (y0, x0))
    source = {"path": str(Path(path).resolve()), "offset_yx": (y0, x0)}
    class_of = _classes_of(instances, class_map)
    name = Path(path).name.split(".")[0]
    objects = {
        "name": f"{name}: objects",
        "features": {
            "index": list(class_of),
            "class": [classes[c].name if c else "" for c in class_of.values()],
        },
        "metadata": {**source, "label_kind": "instances", "classes": classes},
    }
    layers: list[LayerData] = [(instances, {**objects, **frame}, "labels")]
    if len(classes):
        kinds = {
            "name": f"{name}: classes",
            "opacity": 0.4,
            "features": {
                "index": [0, *(info.id for info in classes)],
                "class": ["background", *classes.names],
            },
            "colormap": class_colormap({info.id: info.color for info in classes}),
            "metadata": {**source, "label_kind": "classes", "classes": classes},
        }
        layers.insert(0, (class_map, {**kinds, **frame}, "labels"))
    return layers


def _image_in_view() -> Image | None:
    import napari
    from napari.layers import Image

    viewer = napari.current_viewer()
    if viewer is None:
        return None
    active = viewer.layers.selection.active
    candidates = [active, *reversed(list(viewer.layers))]
    for layer in candidates:
        if isinstance(layer, Image) and layer.ndim == 2 and not layer.metadata.get(OWN):
            return layer
    return None


def _shape_of(image: Image) -> tuple[int, int]:
    data = image.data[0] if image.multiscale else image.data
    return (int(data.shape[0]), int(data.shape[1]))


def _is_long(path: str) -> bool:
    """Whether a file of outlines is better not held in memory."""
    from napari_pathsam.io._files import existing_file

    packed = 10 if path.lower().endswith(".gz") else 1
    return existing_file(path, wanted="a GeoJSON file").stat().st_size * packed > LONG_BYTES


def _extent(
    annotations: Annotations, shape_yx: tuple[int, int] | None
) -> tuple[int, int, int, int]:
    """Level-0 pixels the labels cover, half-open: the whole image unless it is a slide."""
    if shape_yx is not None and max(shape_yx) <= LARGEST_SIDE_PX:
        return (0, 0, *shape_yx)
    y0, x0, y1, x1 = annotations.extent_yx()
    if shape_yx is not None:
        y0, x0 = min(max(y0, 0), shape_yx[0] - 1), min(max(x0, 0), shape_yx[1] - 1)
        y1, x1 = max(min(y1, shape_yx[0]), y0 + 1), max(min(x1, shape_yx[1]), x0 + 1)
    return (y0, x0, y1, x1)


def _frame(mpp: float | None, image: Image | None, offset_yx: tuple[int, int]) -> dict[str, Any]:
    if image is None:
        return _frame_of_mpp(mpp, offset_yx)
    world = image.data_to_world(offset_yx)
    return {
        "scale": tuple(float(s) for s in image.scale),
        "translate": tuple(float(t) for t in image.affine.inverse(world)),
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": image.affine.affine_matrix,
        "units": image.units,
    }


def _classes_of(instances: np.ndarray, class_map: np.ndarray) -> dict[int, int]:
    ids, first = np.unique(instances, return_index=True)
    found = class_map.ravel()[first]
    return {int(i): int(c) for i, c in zip(ids, found, strict=True) if i}
