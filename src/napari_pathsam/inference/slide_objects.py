"""The objects of a class pyramid of any size: block by block, as if it had been done at once.

First every connected area that crosses blocks is put together from its parts; then each area is
split by the block it begins in, which owns its objects and gives them their ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.errors import BadFileError
from napari_pathsam.core.geometry import Region
from napari_pathsam.inference.blending import grown
from napari_pathsam.inference.found_objects import knows_objects
from napari_pathsam.inference.objects import instances
from napari_pathsam.inference.slide_found_objects import FoundBlock, found_on_slide
from napari_pathsam.io.label_store import LabelStore
from napari_pathsam.io.object_classes import (
    OBJECTS,
    class_of_objects,
    first_classes,
    joined,
    write_class_of,
)

if TYPE_CHECKING:
    from napari_pathsam.inference.slide_job import SlideJob

LONGEST_PX = 8192
"""An area with a longer side is one object: it is tissue, not something to be told apart."""
BLOCK_CHUNKS = 2


@dataclass(frozen=True)
class ObjectBlock:
    """A step of the work at one block.

    Attributes
    ----------
    region
        Its level-0 pixels.
    labels
        Its object ids, when it is finished; None: it was looked at for areas that cross blocks, or
        coarser levels were made.
    done, total
        Steps: each block is looked at, and later finished.
    """

    region: Region
    labels: NDArray[np.int32] | None
    done: int
    total: int


@dataclass
class _Area:
    """A connected area of more than one block: its extent, its first pixel, and how many it has."""

    region: Region
    seed_yx: tuple[int, int]
    px: int
    first_id: int = 0
    parts: NDArray[np.int32] | None = field(default=None, repr=False)

    @property
    def is_one(self) -> bool:
        """Whether it is too long to be split, or to be held in memory."""
        return max(self.region.shape_yx) > LONGEST_PX


class _Part(NamedTuple):
    """What one block has of an area, in level-0 pixels."""

    region: Region
    seed_yx: tuple[int, int]
    px: int


def objects_of_store(
    classes: LabelStore, *, smallest_px: int = 0, block_px: int | None = None
) -> Iterator[ObjectBlock]:
    """The objects of a class pyramid, from the upper left to the lower right.

    Every block comes twice, the first time without labels; closing the iterator stops.
    What :func:`~napari_pathsam.inference.objects.instances` finds on the whole, whatever the
    blocks, but for areas longer than :data:`LONGEST_PX`, which stay one. Ids follow the blocks and
    in them the rows; the same labels give the same ids.

    Parameters
    ----------
    classes
        Class ids; 0 and "unsure" (255) are no objects.
    smallest_px
        Objects below so many pixels are left out.
    block_px
        Side of a block; by default two chunks.
    """
    side = block_px or BLOCK_CHUNKS * classes.chunk_px
    height, width = classes.shape_yx
    blocks = [
        Region(y, x, min(side, height - y), min(side, width - x))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    spanning = yield from _spanning(classes, blocks)
    next_id = 1
    for done, (block, areas) in enumerate(zip(blocks, spanning, strict=True), len(blocks) + 1):
        out = np.zeros(block.shape_yx, np.int32)
        if classes.holds(block):
            known = _known(classes, block)
            found = _labelled(known)
            whole = np.isin(found, list(areas), invert=True)
            local = _local(classes, block, np.where(whole, known, 0), smallest_px)
            for label, area in sorted(areas.items()):
                if not area.first_id:
                    area.first_id = next_id
                    next_id += _count(classes, area, smallest_px)
                if not area.is_one:
                    _paint(out, block, area, _parts(classes, area, smallest_px), found == label)
                elif area.px >= smallest_px:
                    out[found == label] = area.first_id
            out[local > 0] = local[local > 0] + next_id - 1
            next_id += int(local.max(initial=0))
        for area in areas.values():
            if area.region.y + area.region.height <= block.y + block.height and (
                area.region.x + area.region.width <= block.x + block.width
            ):
                area.parts = None  # nobody asks again
        yield ObjectBlock(block, out, done, 2 * len(blocks))


def write_objects(
    classes: LabelStore, *, smallest_px: int = 0, job: SlideJob | None = None
) -> Iterator[ObjectBlock | FoundBlock]:
    """Write the objects into a label pyramid beside the classes, and what they are; yields blocks.

    Its name is :data:`~napari_pathsam.io.object_classes.OBJECTS`. It is there when it is whole, in
    the place of an older one. If the one that is there was made from these very labels and in this
    way, it is left as it is, and nothing is yielded.

    Parameters
    ----------
    classes
        Class ids.
    smallest_px
        Objects below so many pixels are left out.
    job
        The run that made the classes: where its model finds objects one by one, these are taken.

    Raises
    ------
    BadFileError
        It cannot be written.
    """
    one_by_one = job if job is not None and knows_objects(job.model) else None
    made_of = {"smallest_px": smallest_px, "classes": _digest(classes)}
    about = {**classes.about, "objects": {**made_of, "one by one": one_by_one is not None}}
    try:
        LabelStore.open(classes.path, OBJECTS, about=about)
        if class_of_objects(classes.path) is not None:
            return
    except BadFileError:
        pass  # none, or of other labels
    steps: Iterator[ObjectBlock | FoundBlock] = (
        objects_of_store(classes, smallest_px=smallest_px)
        if one_by_one is None
        else found_on_slide(one_by_one, smallest_px=smallest_px)
    )
    with LabelStore.remaking(
        classes.path, classes.shape_yx, name=OBJECTS, mpp=classes.mpp, classes=classes.classes,
        about=about, chunk_px=classes.chunk_px,
    ) as store:  # fmt: skip
        known = []
        for block in steps:
            if block.labels is not None and block.labels.any():
                store.write_level(0, block.region, block.labels)
                known.append(
                    np.array([*block.class_of.items()], np.int64).T
                    if isinstance(block, FoundBlock)
                    else first_classes(block.labels, classes.read(block.region))
                )
            yield block
        write_class_of(store, *joined(known))
        for _ in store.overviews():
            yield replace(block, labels=None)


def _digest(classes: LabelStore) -> str:
    """Of all the files of a label pyramid: its labels, their names and colours."""
    folder = classes.path / "labels" / classes.name
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".partial":
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def _labelled(known: NDArray[np.integer]) -> NDArray[np.int32]:
    """Connected areas of one class, from 1."""
    from skimage.measure import label

    return np.asarray(label(known, connectivity=2, background=0), np.int32)


def _known(classes: LabelStore, region: Region) -> NDArray[np.uint8]:
    ids = classes.read(region).astype(np.uint8, copy=False)
    return np.where(ids == UNSURE, 0, ids).astype(np.uint8)


def _local(
    classes: LabelStore, block: Region, known: NDArray[np.integer], smallest_px: int
) -> NDArray[np.int32]:
    """The objects of the areas that lie in a block with all they have."""
    rim = grown(block, 1).intersection(Region.of(classes.shape_yx))
    assert rim is not None
    ids = np.zeros(rim.shape_yx, np.uint8)
    at = Region(block.y - rim.y, block.x - rim.x, *block.shape_yx).slices
    ids[at] = known
    return instances(ids, smallest_px=smallest_px)[at]


def _count(classes: LabelStore, area: _Area, smallest_px: int) -> int:
    """How many objects an area is."""
    if area.is_one:
        return int(area.px >= smallest_px)
    return int(_parts(classes, area, smallest_px).max(initial=0))


def _parts(classes: LabelStore, area: _Area, smallest_px: int) -> NDArray[np.int32]:
    """The objects of one area over its region, from 1; kept until nobody asks again."""
    if area.parts is None:
        rim = grown(area.region, 1).intersection(Region.of(classes.shape_yx))
        assert rim is not None
        found = _labelled(_known(classes, rim))
        seed = found[area.seed_yx[0] - rim.y, area.seed_yx[1] - rim.x]
        mask = (found == seed).astype(np.uint8)
        parts = instances(mask, smallest_px=smallest_px)
        at = Region(area.region.y - rim.y, area.region.x - rim.x, *area.region.shape_yx)
        area.parts = parts[at.slices]
    return area.parts


def _paint(
    out: NDArray[np.int32],
    block: Region,
    area: _Area,
    parts: NDArray[np.int32],
    mask: NDArray[np.bool_],
) -> None:
    """Write an area's objects into the block, where the block has it."""
    shared = block.intersection(area.region)
    assert shared is not None
    into = Region(shared.y - block.y, shared.x - block.x, *shared.shape_yx).slices
    of = Region(shared.y - area.region.y, shared.x - area.region.x, *shared.shape_yx).slices
    here = mask[into] & (parts[of] > 0)
    out[into][here] = parts[of][here] + area.first_id - 1


# --- areas that cross blocks ---------------------------------------------------------------------


def _spanning(
    classes: LabelStore, blocks: list[Region]
) -> Generator[ObjectBlock, None, list[dict[int, _Area]]]:
    """For each block, its areas that go on in others, by their label in the block."""
    parents: dict[tuple[int, int], tuple[int, int]] = {}
    parts: dict[tuple[int, int], _Part] = {}
    width = classes.shape_yx[1]
    above = np.zeros((2, width + 2), np.int64)  # class and node of the row over the blocks
    below = above.copy()
    left = np.zeros((2, 0), np.int64)
    nodes: list[tuple[int, int]] = [(-1, 0)]
    for number, block in enumerate(blocks):
        if block.x == 0:
            above, below = below, np.zeros_like(below)
            left = np.zeros((2, block.height + 2), np.int64)
        yield ObjectBlock(block, None, number, 2 * len(blocks))
        if not classes.holds(block):
            left = np.zeros_like(left)
            continue
        known = _known(classes, block)
        found = _labelled(known)
        boxes, sizes = ndimage.find_objects(found), np.bincount(found.ravel())
        codes = np.zeros(int(found.max(initial=0)) + 1, np.int64)
        rim = np.unique(np.r_[found[0], found[-1], found[:, 0], found[:, -1]])
        for label in rim[rim > 0].tolist():
            codes[label] = len(nodes)
            nodes.append((number, label))
            parents[number, label] = (number, label)
            rows, columns = boxes[label - 1]
            y, x = block.y + rows.start, block.x + columns.start
            region = Region(y, x, rows.stop - rows.start, columns.stop - columns.start)
            first = int(np.argmax(found[rows.start] == label))
            parts[number, label] = _Part(region, (y, block.x + first), int(sizes[label]))
        span = slice(block.x, block.x + block.width + 2)
        _join(parents, nodes, above[:, span], np.stack([known[0], codes[found[0]]]))
        _join(parents, nodes, left, np.stack([known[:, 0], codes[found[:, 0]]]))
        inner = slice(block.x + 1, block.x + 1 + block.width)
        below[:, inner] = known[-1], codes[found[-1]]
        left = np.pad(np.stack([known[:, -1], codes[found[:, -1]]]), ((0, 0), (1, 1)))
    return _gathered(parents, parts, len(blocks))


def _join(
    parents: dict[tuple[int, int], tuple[int, int]],
    nodes: list[tuple[int, int]],
    before: NDArray[np.int64],
    line: NDArray[np.int64],
) -> None:
    """Areas of one class that meet across a border, at corners too, are one."""
    n = line.shape[1]
    pairs = set()
    for shift in (0, 1, 2):
        other = before[:, shift : shift + n]
        meet = (line[0] > 0) & (other[0] == line[0])
        pairs |= set(zip(other[1][meet].tolist(), line[1][meet].tolist(), strict=True))
    for a, b in pairs:
        one, two = (_root(parents, nodes[code]) for code in (a, b))
        if one != two:
            parents[max(one, two)] = min(one, two)


def _root(
    parents: dict[tuple[int, int], tuple[int, int]], node: tuple[int, int]
) -> tuple[int, int]:
    path = [node]
    while parents[path[-1]] != path[-1]:
        path.append(parents[path[-1]])
    for one, _ in pairwise(path):
        parents[one] = path[-1]
    return path[-1]


def _gathered(
    parents: dict[tuple[int, int], tuple[int, int]],
    parts: dict[tuple[int, int], _Part],
    n_blocks: int,
) -> list[dict[int, _Area]]:
    """One area for all the parts that are joined; those of one block only are left to it."""
    members: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for node in parents:
        members.setdefault(_root(parents, node), []).append(node)
    out: list[dict[int, _Area]] = [{} for _ in range(n_blocks)]
    for root, some in members.items():
        if len(some) == 1:
            continue
        boxes = [parts[node].region for node in some]
        y, x = min(b.y for b in boxes), min(b.x for b in boxes)
        bottom, right = max(b.y + b.height for b in boxes), max(b.x + b.width for b in boxes)
        px = sum(parts[node].px for node in some)
        area = _Area(Region(y, x, bottom - y, right - x), parts[root].seed_yx, px)
        for number, label in some:
            out[number][label] = area
    return out
