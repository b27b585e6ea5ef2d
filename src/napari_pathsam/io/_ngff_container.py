"""The folder that OME-Zarr labels lie in: made beside its place, then put there as a whole."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import reading
from napari_pathsam.io._in_use import InUse, in_use
from napari_pathsam.io._ngff_metadata import (
    VERSION,
    halving_shapes,
    image_label,
    multiscale,
    space_axes,
)

OWN = "napari_pathsam"
"""The group's attribute for what NGFF has no place for."""


def check_container(path: Path, shape_yx: tuple[int, int], *, image: bool = False) -> None:
    """BadFileError unless labels of this shape can be added at ``path``, or nothing is there.

    ``image`` asks for an image of that shape; else a container without one will do.
    """
    if not path.exists():
        return
    from napari_pathsam.io._ngff import is_zarr, open_ngff

    found: tuple[int, int] | None = None
    is_container = (path / "zarr.json").is_file() and is_zarr(path)
    others = sorted(path.glob("labels/*/zarr.json")) if is_container else []
    if is_container and (image or not others):
        slide = open_ngff(path)
        found = slide.shape_yx
        slide.close()
    elif others:
        import zarr

        with reading(path, "labels of an OME-Zarr 0.5"):
            level_0: Any = zarr.open_array(others[0].parent / "0", mode="r")
            found = (int(level_0.shape[0]), int(level_0.shape[1]))
    if found != tuple(shape_yx):
        kind = "no OME-Zarr 0.5 image" if found is None else (
            f"an image of {found[0]} × {found[1]} pixels"
        )  # fmt: skip
        raise BadFileError(
            f"{path} is there already and is {kind}; labels of {shape_yx[0]} × {shape_yx[1]} "
            "pixels cannot be added to it. Choose another name; nothing was changed."
        )


@contextmanager
def fresh_container(path: Path) -> Iterator[Path]:
    """A folder in which to make what :func:`into_container` then puts at ``path``.

    It is in use meanwhile, so that :func:`tidy_container` knows it from what a killed one left.
    """
    inside = path if path.exists() else path.parent
    fresh = inside / f".{path.name}.{secrets.token_hex(4)}.part"
    ours = InUse(fresh)
    try:
        import zarr

        zarr.open_group(fresh, mode="w", zarr_format=3)
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        ours.let_go()


def tidy_container(path: Path) -> None:
    """Remove what a killed :func:`fresh_container` left in a container."""
    for fresh in path.glob(".*.part"):
        if not in_use(fresh):
            shutil.rmtree(fresh, ignore_errors=True)


def into_container(fresh: Path, path: Path) -> None:
    """Put a new container in its place; into one that is there, its labels only."""
    names = sorted(p.parent.name for p in fresh.glob("labels/*/zarr.json"))
    if not names:
        raise BadFileError(f"Somebody removed {fresh} while {path} was written. Do it once more.")
    _list_labels(fresh, names)
    if not path.exists():
        fresh.replace(path)
        return
    (path / "labels").mkdir(exist_ok=True)
    for name in names:
        place = path / "labels" / name
        if place.exists():  # the older goes only when the new one is there
            place.replace(fresh / f"{name}.old")
        (fresh / "labels" / name).replace(place)
    _list_labels(path, names)


def _list_labels(path: Path, names: list[str]) -> None:
    import zarr

    root = zarr.open_group(path / "labels", mode="a", zarr_format=3)
    known: Any = root.attrs.get("ome") or {}
    listed = list(dict.fromkeys([*known.get("labels", []), *names]))
    root.attrs["ome"] = {**known, "version": VERSION, "labels": listed}


def make_labels(
    container: Path,
    name: str,
    shape_yx: tuple[int, int],
    mpp: float | None,
    dtype: np.dtype,
    chunk_px: int,
) -> Any:
    """An empty label pyramid in a container, without names."""
    import zarr

    group = zarr.open_group(container / "labels" / name, mode="w", zarr_format=3)
    shapes = halving_shapes(shape_yx)
    for level, (height, width) in enumerate(shapes):
        group.create_array(
            str(level),
            shape=(height, width),
            chunks=(min(chunk_px, height), min(chunk_px, width)),
            dtype=dtype,
            dimension_names=["y", "x"],
        )
    group.attrs["ome"] = {"version": VERSION}
    measure_labels(group, name, shapes, mpp)
    return group


def measure_labels(
    group: Any, name: str, shapes: Sequence[tuple[int, int]], mpp: float | None
) -> None:
    """Write how large the pixels of a pyramid are into its group."""
    scales = multiscale(name, space_axes(mpp), shapes, mpp)
    group.attrs["ome"] = {**group.attrs["ome"], "multiscales": [scales]}


def describe_labels(
    group: Any,
    classes: ClassTable | None,
    class_of: Mapping[int, int] | None,
    *,
    objects: bool,
    about: Mapping[str, Any],
) -> None:
    """Write names, colours and what the labels are of into their group."""
    told = image_label(classes or ClassTable(), class_of, objects=objects)
    own = {
        "classes": None if classes is None else classes.model_dump(mode="json"),
        "about": json.loads(json.dumps(dict(about))),
    }
    group.attrs.update({"ome": {**group.attrs["ome"], "image-label": told}, OWN: own})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a BadFileError."""
    try:
        yield
    except OSError as error:
        raise BadFileError(
            f"{path} could not be written: {error.strerror or error}. Choose another folder or "
            "free some space."
        ) from error
