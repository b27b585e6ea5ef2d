"""What a segmentation found, beside what the person has made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region

if TYPE_CHECKING:
    from napari_pathsam.core.areas import AreaTable
    from napari_pathsam.inference.class_maps import ClassTile
    from napari_pathsam.inference.tissue import Tissue
    from napari_pathsam.workspace.segment_request import SegmentRequest


class GuardedArray:
    """An array a person sees and may paint in, and what the model wrote there.

    What the person changed is never written over: neither pixels that differ from what was
    written (whoever changed them, by whatever way), nor pixels said to be painted.

    Parameters
    ----------
    shape_yx, dtype
        Of the two arrays, which begin with zeros.
    """

    def __init__(self, shape_yx: tuple[int, int], dtype: type[np.integer]) -> None:
        self.shown: NDArray[np.integer] = np.zeros(shape_yx, dtype)
        self.written: NDArray[np.integer] = np.zeros(shape_yx, dtype)
        self._painted: NDArray[np.bool_] | None = None

    def write(
        self,
        region: Region,
        values: NDArray[np.integer],
        where: NDArray[np.bool_] | None = None,
    ) -> None:
        """The model's answer over a region of the arrays, there where ``where`` is True."""
        shown, written = self.shown[region.slices], self.written[region.slices]
        mine = shown == written
        if self._painted is not None:
            mine &= ~self._painted[region.slices]
        if where is not None:
            np.copyto(written, values, where=where)
            mine &= where
        else:
            written[...] = values
        np.copyto(shown, values, where=mine)

    def protect(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> None:
        """The person painted these pixels, with another value or the same."""
        if self._painted is None:
            self._painted = np.zeros(self.shown.shape, bool)
        self._painted[rows, columns] = True

    @property
    def edited(self) -> bool:
        """Whether a person changed anything."""
        return self._painted is not None or not np.array_equal(self.shown, self.written)

    def empty(self, region: Region) -> None:
        """Take the model's answer over a region back."""
        self.write(region, np.zeros(region.shape_yx, self.shown.dtype))


@dataclass(frozen=True)
class CellMaps:
    """Probabilities and uncertainty over the cells of one region.

    ``cells`` are counted from the image's corner, ``cell_yx`` level-0 pixels each;
    ``probabilities`` is ``(K, h, w)``, background first, or None.
    """

    cells: Region
    cell_yx: tuple[float, float]
    uncertainty: NDArray[np.float16]
    probabilities: NDArray[np.float16] | None

    @classmethod
    def over(cls, cells: Region, tile: ClassTile) -> CellMaps:
        """Empty maps for what tiles like this one bring; NaN where none came."""
        known = tile.probabilities
        shape = None if known is None else (len(known), *cells.shape_yx)
        return cls(
            cells,
            tile.cell_yx,
            np.full(cells.shape_yx, np.nan, np.float16),
            None if shape is None else np.zeros(shape, np.float16),
        )

    def put(self, tile: ClassTile) -> None:
        """Take over what a tile says."""
        y, x = tile.cells.y - self.cells.y, tile.cells.x - self.cells.x
        at = Region(y, x, *tile.cells.shape_yx).slices
        self.uncertainty[at] = tile.uncertainty
        if self.probabilities is not None and tile.probabilities is not None:
            self.probabilities[(slice(None), *at)] = tile.probabilities


def damage_text(n: int) -> str:
    """What is said of places that could not be read; empty: there are none."""
    one = n == 1
    return "" if not n else (
        f"{n} {'place' if one else 'places'} could not be read and "
        f"{'was' if one else 'were'} taken for glass."
    )  # fmt: skip


@dataclass(eq=False)  # each is itself, and arrays are not compared
class SegmentResult:
    """One model's class map of one image, as far as it was segmented.

    Attributes
    ----------
    request
        What was asked for last; with it the image, the model and the pixel size.
    title
        What people call the model.
    classes
        Whose ids the map holds; 0 is background, 255 "unsure".
    window
        The level-0 pixels the arrays cover.
    at_mpp
        Microns per level-0 pixel the image was taken to have.
    class_map, objects
        Ids of classes ``(H, W)`` uint8; ids of objects int32, None unless they were asked for.
    class_of
        Class of each object.
    covered
        ``(H, W)`` bool, where the model has answered.
    maps
        Probabilities and uncertainty of each region of the last run.
    table
        Areas and counts, of what is shown.
    tissue
        Where the image has tissue, once that was looked for; None: not known.
    likely
        ``(H, W)`` float16, the probability of the likeliest class as far as the last run got; None
        where nobody asks for it (``options.surest``).
    damage
        What the last run could not read of a slide, in level-0 pixels, and took for glass.
    """

    request: SegmentRequest
    title: str
    classes: ClassTable
    window: Region
    at_mpp: float
    class_map: GuardedArray = field(init=False)
    objects: GuardedArray | None = None
    class_of: dict[int, int] = field(default_factory=dict)
    covered: NDArray[np.bool_] = field(init=False)
    maps: list[CellMaps] = field(default_factory=list)
    table: AreaTable | None = None
    tissue: Tissue | None = None
    likely: NDArray[np.float16] | None = None
    damage: frozenset[Region] = frozenset()

    def __post_init__(self) -> None:
        self.class_map = GuardedArray(self.window.shape_yx, np.uint8)
        self.covered = np.zeros(self.window.shape_yx, bool)

    @property
    def image_key(self) -> str:
        return self.request.source.key

    @property
    def mpp(self) -> float | None:
        """Microns per level-0 pixel; None: nobody said."""
        return self.request.mpp

    def summary(self) -> str:
        """What could not be read; empty: nothing is to be said."""
        return damage_text(len(self.damage))

    @property
    def edited(self) -> bool:
        """Whether a person changed the class map or the objects by hand."""
        return self.class_map.edited or (self.objects is not None and self.objects.edited)

    def new_objects(self) -> GuardedArray:
        """An array for objects, where there is none yet."""
        if self.objects is None:
            self.objects = GuardedArray(self.window.shape_yx, np.int32)
        return self.objects

    def empty(self, regions: list[Region] | None) -> None:
        """Forget the model's answer over level-0 regions; None: everywhere."""
        for region in [self.window] if regions is None else regions:
            at = self.to_array(region)
            self.class_map.empty(at)
            self.covered[at.slices] = False
        if self.objects is not None:
            self.objects.empty(self.to_array(self.window))
        self.class_of, self.maps, self.table = {}, [], None

    def to_array(self, region: Region) -> Region:
        """A level-0 region in pixels of the arrays."""
        return Region(region.y - self.window.y, region.x - self.window.x, *region.shape_yx)

    def holds(self, region: Region) -> bool:
        """Whether the arrays cover a level-0 region."""
        return self.window.intersection(region) == region
