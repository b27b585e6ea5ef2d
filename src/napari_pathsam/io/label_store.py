"""LabelStore: labels of any size on the disk, a pyramid in a zarr 3 group (NGFF 0.5 labels).

A chunk is a file, written beside its place and then put there: whoever is killed leaves the old
chunk or the new one. A level is half as fine as the one before it; a pixel of it is what most of
its four pixels are, never a mixture of ids.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.io._files import reading
from napari_pathsam.io._label_levels import LabelLevels
from napari_pathsam.io._ngff_container import (
    OWN,
    check_container,
    describe_labels,
    fresh_container,
    into_container,
    make_labels,
    measure_labels,
    tidy_container,
    writing,
)
from napari_pathsam.io._ngff_metadata import CHUNK_PX, MICROMETER, classes_of_label

if TYPE_CHECKING:
    pass


class LabelStore(LabelLevels):
    """One label map and its coarser levels; reading is safe from any thread and process.

    Made by :meth:`create` and :meth:`open`. A pickled store opens again where it is unpickled, as
    one writer of several.

    Attributes
    ----------
    path, name
        The container's folder, and which labels of it these are.
    about
        What they are of: the slide's identity, the model, settings; plain JSON.
    classes
        Names and colours of class ids; None: not known.
    mpp
        Microns per level-0 pixel; None: not known.
    """

    def __init__(self, path: Path, name: str, group: Any, *, writable: bool) -> None:
        ome, own = dict(group.attrs["ome"]), dict(group.attrs.get(OWN) or {})
        scale = ome["multiscales"][0]
        super().__init__(path, name, [group[d["path"]] for d in scale["datasets"]])
        self.writable, self._group = writable, group
        if any(a.ndim != 2 or not np.issubdtype(a.dtype, np.integer) for a in self._levels):
            raise ValueError("labels have rows and columns of whole numbers")
        shapes = self.level_shapes
        if writable and any(b != (a[0] // 2, a[1] // 2) for a, b in pairwise(shapes)):
            raise ValueError("its levels are not each half as large; it can be read only")
        self.about: dict[str, Any] = dict(own.get("about") or {})
        self.classes: ClassTable | None = (
            ClassTable.model_validate(own["classes"])
            if own.get("classes") is not None
            else classes_of_label(ome.get("image-label"))
        )
        in_um = all(axis.get("unit") == MICROMETER for axis in scale["axes"])
        transforms = scale["datasets"][0]["coordinateTransformations"]
        steps = next((t["scale"] for t in transforms if t["type"] == "scale"), None)
        self.mpp: float | None = float(np.prod(steps) ** 0.5) if in_um and steps else None

    # --- making and opening ---------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape_yx: tuple[int, int],
        *,
        mpp: float | None = None,
        classes: ClassTable | None = None,
        dtype: DTypeLike = np.uint8,
        name: str = "classes",
        about: Mapping[str, Any] | None = None,
        chunk_px: int = CHUNK_PX,
        objects: bool | None = None,
    ) -> LabelStore:
        """Empty labels, in a new container or beside what an OME-Zarr container holds already.

        Parameters
        ----------
        path
            The container, ``NAME.zarr``.
        dtype
            Of the ids.
        objects
            Whether ids are objects and not classes; None: unless there is room for 255 only.

        Raises
        ------
        BadFileError
            When there are labels of this name, the container is of another size or no container,
            or the disk does not let us.
        """
        path = Path(path)
        if name != Path(name).name or name.startswith("."):
            raise ValueError(f"{name!r} is no name for labels; letters and figures are wanted")
        if min(shape_yx) < 1 or chunk_px < 16:
            raise ValueError(f"no labels have {shape_yx} pixels in chunks of {chunk_px}")
        check_container(path, shape_yx)
        if (path / "labels" / name).exists():
            raise BadFileError(
                f"{path} has labels called {name!r} already; they were left as they are. Choose "
                "another file, or go on with these."
            )
        if objects is None:
            objects = np.dtype(dtype) != np.uint8
        with writing(path), fresh_container(path) as fresh:
            group = make_labels(fresh, name, shape_yx, mpp, np.dtype(dtype), chunk_px)
            describe_labels(group, classes, None, objects=objects, about=about or {})
            into_container(fresh, path)
        return cls.open(path, name, writable=True)

    @classmethod
    @contextmanager
    def remaking(
        cls,
        path: str | os.PathLike[str],
        shape_yx: tuple[int, int],
        *,
        name: str,
        mpp: float | None = None,
        classes: ClassTable | None = None,
        dtype: DTypeLike = np.int32,
        about: Mapping[str, Any] | None = None,
        chunk_px: int = CHUNK_PX,
    ) -> Iterator[LabelStore]:
        """Empty labels of objects to be filled out of sight, as in :meth:`create`.

        They take the place of others of that name when the block is left, and only then: whoever
        fails or is killed in it has changed nothing.
        """
        path = Path(path)
        check_container(path, shape_yx)
        with writing(path), fresh_container(path) as fresh:
            group = make_labels(fresh, name, shape_yx, mpp, np.dtype(dtype), chunk_px)
            describe_labels(group, classes, None, objects=True, about=about or {})
            yield cls(fresh, name, group, writable=True)
            into_container(fresh, path)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        name: str = "classes",
        *,
        writable: bool = False,
        about: Mapping[str, Any] | None = None,
    ) -> LabelStore:
        """Open labels that are there, of any program that writes NGFF 0.5.

        Parameters
        ----------
        writable
            To write; what a killed writer left half-written stays until :meth:`tidy`.
        about
            What must be true of them: labels of another slide or another run are refused.

        Raises
        ------
        BadFileError
            When there are none of this name, or they are not what ``about`` says.
        """
        import zarr

        path = Path(path)
        folder = path / "labels" / name
        if not (folder / "zarr.json").is_file():
            there = sorted(p.parent.name for p in path.glob("labels/*/zarr.json"))
            raise BadFileError(
                f"{path} has no labels called {name!r}"
                + (f"; it has {', '.join(there)}." if there else ", nor any others.")
            )
        with reading(path, "labels of an OME-Zarr 0.5"):
            group = zarr.open_group(folder, mode="r+" if writable else "r", zarr_format=3)
            store = cls(path, name, group, writable=writable)
        if about is not None:
            store.require(about)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.name, self.writable)

    def require(self, about: Mapping[str, Any]) -> None:
        """Raise BadFileError unless :attr:`about` says all this."""
        for key, wanted in json.loads(json.dumps(dict(about))).items():
            if self.about.get(key) != wanted:
                raise BadFileError(
                    f"{self.path} holds labels of something else: “{key}” is "
                    f"{_short(self.about.get(key))} there and {_short(wanted)} here. Nothing was "
                    "changed. Choose another file, or the slide and the settings it was made with."
                )

    def describe(
        self, classes: ClassTable | None = None, class_of: Mapping[int, int] | None = None
    ) -> None:
        """Other names and colours; the class of each object where there are few."""
        objects = self.dtype != np.uint8
        with writing(self.path):
            describe_labels(self._group, classes, class_of, objects=objects, about=self.about)
        self.classes = classes

    def measure(self, mpp: float | None) -> None:
        """Another pixel size."""
        with writing(self.path):
            measure_labels(self._group, self.name, self.level_shapes, mpp)
        self.mpp = mpp

    # --- writing --------------------------------------------------------------------------------

    def write(self, region: Region, array: NDArray[np.integer]) -> None:
        """Labels over any level-0 pixels, and the coarser levels over them; one writer only."""
        self._put(region, array)
        at = region
        for level in range(1, len(self._levels)):
            coarser = at.halved(self.level_shapes[level])
            if coarser is None:
                return
            at = coarser
            self._halve(level, at)

    def write_base(self, region: Region, array: NDArray[np.integer]) -> None:
        """Labels over whole chunks of level 0; several processes may write, each its own chunks.

        Afterwards one of them calls :meth:`update_overviews`.
        """
        ends = (region.y + region.height, region.x + region.width)
        for start, end, side, chunk in zip(
            (region.y, region.x), ends, self.shape_yx, self._levels[0].chunks, strict=True
        ):
            if start % chunk or (end % chunk and end != side):
                raise ValueError(f"{region} is not made of whole chunks of {chunk} pixels")
        self._put(region, array)

    def update_overviews(self, region: Region | None = None) -> None:
        """Make the coarser levels over level-0 pixels (None: all) anew; one writer only."""
        for _ in self.overviews(region):
            pass

    def overviews(self, region: Region | None = None) -> Iterator[None]:
        """Do :meth:`update_overviews`, a chunk with every step."""
        for level in range(1, len(self._levels)):
            for at in self._chunks_over(level, region):
                self._halve(level, at)
                yield

    def _put(self, region: Region, array: NDArray[np.integer]) -> None:
        if region.shape_yx != array.shape:
            raise ValueError(f"labels of the shape {array.shape} for {region}")
        if region.intersection(Region.of(self.shape_yx)) != region:
            raise ValueError(f"{region} is not inside labels of {self.shape_yx}")
        if not np.can_cast(array.dtype, self.dtype) and array.size:
            room = np.iinfo(self.dtype)
            if int(array.min()) < room.min or int(array.max()) > room.max:
                raise ValueError(f"ids {array.min()} … {array.max()} do not fit {room.dtype}")
        self.write_level(0, region, array)

    def tidy(self) -> None:
        """Remove what a killed writer left half-written; only where nobody else writes."""
        for partial in (self.path / "labels" / self.name).rglob("*.partial"):
            partial.unlink(missing_ok=True)
        tidy_container(self.path)


def _reopened(path: Path, name: str, writable: bool) -> LabelStore:
    return LabelStore.open(path, name, writable=writable)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
