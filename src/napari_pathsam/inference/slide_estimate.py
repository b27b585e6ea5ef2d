"""How long a run over a slide will take and how large it will be, from a few measured windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.duration import duration
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.label_map import halved
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.found_objects import knows_objects
from napari_pathsam.inference.objects import instances
from napari_pathsam.inference.slide_block import maps_of
from napari_pathsam.inference.slide_job import SlideJob
from napari_pathsam.inference.slide_plan import SlidePlan
from napari_pathsam.inference.slide_tasks import runs_by_block, slide_tasks
from napari_pathsam.inference.windows import WindowLogits, Windows
from napari_pathsam.models.pathsam import PathSam

LEAST, MOST = 5, 13
"""Batches of windows; the first is not counted: caches are cold."""
SPENT_S = 5.0
"""So long windows are measured, and the least number of them however long it takes; and no longer
objects are told apart."""
LONG_S = 1800.0
"""A run that takes longer is long: what would be sooner done is said."""
SHORT_S = 10.0
"""A run below that needs no estimate in words."""
SMALLEST = "pathsam-nano"
"""No promptable model encodes sooner."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    seconds
        Of all processes together.
    objects_s
        Seconds more, of one process, in which objects are made afterwards.
    nbytes, windows, mm2
        Bytes on the disk, windows, and the mm² they cover.
    base
        Name of the promptable model whose image encoder looks at them; empty: none does.
    """

    seconds: float
    objects_s: float
    nbytes: int
    windows: int
    mm2: float
    base: str = ""

    def text(self, *, part: str, more: str, workers: int = 0) -> str:
        """What is said before a run; empty: it is short.

        Parameters
        ----------
        part, more
            How a part of the slide, and other or more processors, are asked for.
        workers
            So many processes share the work.
        """
        seconds = self.seconds / max(1, workers) + self.objects_s
        if seconds < SHORT_S:
            return ""
        said = (
            f"{self.mm2:.3g} mm² to do in {self.windows} windows; about {duration(seconds)} and "
            f"{self.nbytes / 1e6:.0f} MB on the disk."
        )
        if seconds > LONG_S:
            said += f" Sooner done is a part of it ({part}), or all of it with {more}"
            if self.base not in ("", SMALLEST):
                said += f" or a smaller model: {SMALLEST} encodes a field in a quarter of the "
                said += "time of sam2.1-tiny"
            said += "."
        return said


def estimate_slide(job: SlideJob, *, objects: bool = False, workers: int = 0) -> Estimate:
    """Run a few windows from all over what is to be done; make and pack the labels over them.

    Parameters
    ----------
    objects
        Whether a label pyramid of objects is made afterwards, too: of its size, and of the time in
        which they are told apart, or a model that finds them one by one looks once more.
    workers
        So many processes share the blocks, and run the windows at the borders of their tasks twice.
        0: this process does all.
    """
    plan = job.plan
    blocks = [plan.blocks[number] for number in job.todo(None)]
    tiles = list({t.region: t for block in blocks for t in plan.windows(block)}.values())
    if not tiles:
        return Estimate(0.0, 0.0, 0, 0, 0.0)
    found, each = _measured(job, tiles)
    pieces, making = _made(job, found)
    px = sum(piece["classes"].size for piece in pieces)
    began = perf_counter()
    nbytes: float = sum(_packed_bytes(job, _side_by_side(pieces, name)) for name in job.names)
    packing = perf_counter() - began
    covered = sum(part.height * part.width for part in map(plan.part, blocks))
    own = min(covered, sum(_own(plan, t).height * _own(plan, t).width for t in tiles))
    objects_s = 0.0
    if objects:
        ids, splitting = _told_apart(pieces)
        some = sum(piece["objects"].size for piece in ids)
        began = perf_counter()
        nbytes += _packed_bytes(job, _side_by_side(ids, "objects")) / some * px
        objects_s = (splitting + (perf_counter() - began) / some) * own
        if knows_objects(job.model):  # each window once more
            objects_s = each / job.batch * len(tiles)
    return Estimate(
        seconds=each * model_runs(job, workers=workers)
        + making / px * covered
        + packing / px * own,
        objects_s=objects_s,
        nbytes=round(nbytes / px * own),
        windows=len(tiles),
        mm2=own * plan.mpp**2 / 1e6,
        base=job.model.config.base if isinstance(job.model, PathSam) else "",
    )


def model_runs(job: SlideJob, *, workers: int = 0) -> int:
    """How often the model will be run: a block's new windows, in batches that are filled up."""
    todo = job.todo(None)
    tasks = slide_tasks(job.plan, todo, workers) if workers else [todo]
    return sum(runs_by_block(job.plan, tasks, job.batch).values())


def _measured(job: SlideJob, tiles: Sequence[Tile]) -> tuple[list[WindowLogits], float]:
    """Some windows, and the seconds that a batch of them takes in the middle of a run."""
    batch = job.batch
    wanted = min(MOST * batch, len(tiles))
    spread = np.linspace(0, len(tiles) - 1, wanted).astype(int)
    some = [tiles[i] for i in np.random.default_rng(0).permutation(spread)]
    found: list[WindowLogits] = []
    times: list[float] = []
    windows = Windows(
        job.model, job.slide, job.plan.grid, batch=batch, kept_bytes=0,
        views=job.plan.settings.views,
    )  # fmt: skip
    with closing(windows) as run:
        while some and (len(times) < LEAST or sum(times) < SPENT_S):
            began = perf_counter()
            found += run.logits(some[:batch], some[batch:])
            times.append(perf_counter() - began)
            some = some[batch:]
    return found, float(np.median(times[1:] or times))


def _own(plan: SlidePlan, tile: Tile) -> Region:
    """The level-0 pixels nearer to a window's middle than to any other's."""
    top, bottom, left, right = (fade // 2 for fade in tile.fade_px)
    r = tile.region
    return plan.grid.level0_of(
        Region(r.y + top, r.x + left, max(1, r.height - top - bottom),
               max(1, r.width - left - right))
    )  # fmt: skip


def _made(
    job: SlideJob, found: Sequence[WindowLogits]
) -> tuple[list[dict[str, NDArray[np.uint8]]], float]:
    """The windows' own parts of the label pyramids by name, and the seconds that took."""
    plan, pieces = job.plan, []
    began = perf_counter()
    for one in found:
        own = _own(plan, one.tile)
        blend = Blend(plan.channels, one.tile.region)
        blend.add(one.tile, one.logits.float())
        blend.rest_is_background()
        pieces.append(maps_of(plan, blend, own, own, ids=job.ids, names=job.names))
    return pieces, perf_counter() - began


def _told_apart(
    pieces: Sequence[Mapping[str, NDArray[np.uint8]]],
) -> tuple[list[dict[str, NDArray[np.int32]]], float]:
    """The objects of some of the pieces, and the seconds for each pixel."""
    ids: list[dict[str, NDArray[np.int32]]] = []
    times: list[tuple[float, int]] = []
    for piece in pieces:
        began, classes = perf_counter(), piece["classes"]
        ids.append({"objects": instances(classes)})
        times.append((perf_counter() - began, classes.size))
        if sum(seconds for seconds, _ in times) > SPENT_S:
            break
    warm = times[1:] or times
    return ids, sum(seconds for seconds, _ in warm) / sum(size for _, size in warm)


def _side_by_side(
    pieces: Sequence[Mapping[str, NDArray[np.integer]]], name: str
) -> NDArray[np.integer]:
    """One map of all pieces, as a pyramid packs neighbours together."""
    across = -int(-(len(pieces) ** 0.5) // 1)
    height, width = (max(piece[name].shape[axis] for piece in pieces) for axis in (0, 1))
    rows = -(-len(pieces) // across)
    whole = np.zeros((rows * height, across * width), pieces[0][name].dtype)
    for i, piece in enumerate(pieces):
        at = Region(i // across * height, i % across * width, *piece[name].shape)
        whole[at.slices] = piece[name]
    return whole


def _packed_bytes(job: SlideJob, labels: NDArray[np.integer]) -> int:
    """What labels and their coarser levels take in the job's label pyramids."""
    import zarr

    levels = 0 if job.run is None else len(job.run.stores["classes"].level_shapes)
    chunks, nbytes = (job.plan.chunk_px, job.plan.chunk_px), 0
    for _ in range(levels):
        store: dict[str, Any] = {}
        zarr.create_array(store, data=labels, chunks=chunks)
        nbytes += sum(len(packed) for key, packed in store.items() if key.startswith("c/"))
        labels = halved(labels[: len(labels) // 2 * 2, : labels.shape[1] // 2 * 2])
        if not labels.size:
            break
    return nbytes
