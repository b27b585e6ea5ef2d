"""One block of a slide: every window that touches it, summed in grid order, as class ids.

A block depends on nothing but the slide, the model and the plan: blocks may be worked on in any
order, by any process, twice, and come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.tiling import Tile
from napari_pathsam.inference.blending import Blend
from napari_pathsam.inference.class_maps import finish
from napari_pathsam.inference.seams import SeamCounts, count_seams
from napari_pathsam.inference.slide_plan import SlidePlan
from napari_pathsam.inference.windows import Damage, Windows

BAND_PX = 1024


@dataclass(frozen=True)
class Block:
    """A finished block.

    Attributes
    ----------
    number
        Its place among the plan's blocks.
    region
        Its level-0 pixels.
    maps
        ``(h, w)`` uint8 at those pixels by name: ``classes`` holds class ids; ``uncertainty`` and
        ``probability-NAME``, where asked for, 0 … 255 for 0 … 1, one value a cell.
    damage
        What did not decode.
    seams
        Changes of class at window ends and elsewhere.
    """

    number: int
    region: Region
    maps: dict[str, NDArray[np.uint8]]
    damage: tuple[Damage, ...]
    seams: SeamCounts


def run_block(
    plan: SlidePlan,
    windows: Windows,
    number: int,
    *,
    ids: NDArray[np.uint8],
    names: Sequence[str] = ("classes",),
    then: Sequence[Tile] = (),
) -> Block:
    """Work on one block.

    Parameters
    ----------
    number
        Which of the plan's blocks.
    ids
        The class id of each channel, 0 first.
    names
        The maps that are wanted: of channel i ``probability`` maps are named in order.
    then
        The windows that will be wanted next, to read them ahead.
    """
    block = plan.blocks[number]
    part, area = plan.part(block), plan.area(block)
    blend = Blend(plan.channels, plan.cells(block))
    damage: list[Damage] = []
    for window in windows.logits(plan.windows(block), then):
        blend.add(window.tile, window.logits.float())
        damage += window.damage
    blend.rest_is_background()
    maps = maps_of(plan, blend, part, area, ids=ids, names=names)
    class_map = maps["classes"]
    rows, columns = (
        [end - start for end in plan.edges(axis, start, start + n)]
        for axis, (start, n) in enumerate(zip((part.y, part.x), part.shape_yx, strict=True))
    )
    seams = count_seams(np.where(class_map == UNSURE, 0, class_map), rows, columns)
    if part != block:
        at = Region(part.y - block.y, part.x - block.x, *part.shape_yx).slices
        for name, values in maps.items():
            maps[name] = np.zeros(block.shape_yx, values.dtype)
            maps[name][at] = values
    return Block(number, block, maps, tuple(dict.fromkeys(damage)), seams)


def maps_of(
    plan: SlidePlan,
    blend: Blend,
    region: Region,
    area: Region,
    *,
    ids: NDArray[np.uint8],
    names: Sequence[str],
) -> dict[str, NDArray[np.uint8]]:
    """The maps of a level-0 region by name; specks and holes are followed in the area round it."""
    settings = plan.settings
    likely = np.empty(area.shape_yx, np.float16) if settings.surest else None
    drawn = blend.class_map(plan.grid, area, ids, settings.threshold, likely)
    whole = finish(drawn, settings, likely, longest_px=plan.longest_unsure_px)
    inside = Region(region.y - area.y, region.x - area.x, *region.shape_yx)
    maps = {"classes": np.ascontiguousarray(whole[inside.slices])}
    return maps | (_shares(plan, blend, region, names[1:]) if len(names) > 1 else {})


def _shares(
    plan: SlidePlan, blend: Blend, block: Region, names: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    """Uncertainty and probabilities in 255ths, at level-0 pixels."""
    cells = plan.grid.cells_of(block)
    probabilities = blend.mean(cells).softmax(0)
    rows, columns = (
        torch.from_numpy(
            np.clip(((np.arange(n) + start + 0.5) / step).astype(int) - first, 0, size - 1)
        )
        for n, start, step, first, size in zip(
            block.shape_yx, (block.y, block.x), plan.grid.cell_level0_yx, (cells.y, cells.x),
            cells.shape_yx, strict=True,
        )
    )  # fmt: skip
    out = {}
    channels = iter(probabilities[1:])
    for name in names:
        values = 1 - probabilities.amax(0) if name == "uncertainty" else next(channels)
        coarse = (255 * values).round().to(torch.uint8)
        out[name] = coarse[rows][:, columns].numpy()
    return out
