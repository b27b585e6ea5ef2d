"""A model on painted pixels: the score of what is held out, and the regions it disagrees with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.metrics import confusion
from napari_pathsam.core.strokes import EIGHT, separate_regions
from napari_pathsam.inference.class_maps import pixels_embedding
from napari_pathsam.inference.embedding_cache import EmbeddingCache
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.pathsam import logits_at
from napari_pathsam.models.pathsam_config import PathSamConfig
from napari_pathsam.training.finetune_data import TilePixels, channel_table, tile_pixels_of
from napari_pathsam.training.finetune_report import Reliability, Scores
from napari_pathsam.training.finetune_run import BACKGROUND, Frozen


@dataclass(frozen=True)
class Said:
    """What a model says of painted pixels of one image: true channel, its own, its confidence."""

    image: int
    pixels: TilePixels
    pred: NDArray[np.int64]
    confidence: NDArray[np.float64]
    likelihood: NDArray[np.float64]

    def only(self, mask: NDArray[np.bool_]) -> Said:
        """Of some of the pixels."""
        return Said(
            self.image, self.pixels.only(mask), self.pred[mask], self.confidence[mask],
            self.likelihood[mask],
        )  # fmt: skip


def said_of(
    model: ClassModel,
    frozen: Frozen,
    *,
    held: bool | None = None,
    cache: EmbeddingCache | None = None,
    tiles: Sequence[Sequence[TilePixels]] | None = None,
) -> Iterator[Said]:
    """What the model says of painted pixels, tile by tile; each pixel once.

    ``held``: only the held-out ones, only the others, None: all. Read as segmenting reads them:
    logits bilinear between the cells.
    """
    tiles = tile_pixels_of(frozen) if tiles is None else tiles
    for image, found in enumerate(tiles):
        for n, pixels in enumerate(found):
            wanted = pixels.own if held is None else pixels.own & (pixels.held == held)
            if not wanted.any():
                continue
            chosen = pixels.only(wanted)
            embedding, _ = pixels_embedding(model, frozen.pixels[image][n], cache=cache)
            logits = model.decode_classes(embedding).logits.cpu()
            record = frozen.run.images[image]
            size = record.grid.encoded_cells(record.tiles[n].region)
            if logits.shape[-2:] != size:
                logits = logits_at(logits, size)
            probability = sampled(logits, chosen.y, chosen.x).double().softmax(0).numpy()
            rows = np.arange(probability.shape[1])
            yield Said(
                image,
                chosen,
                probability.argmax(axis=0),
                probability.max(axis=0),
                probability[chosen.channel, rows],
            )


def sampled(logits: Tensor, y: NDArray[np.float32], x: NDArray[np.float32]) -> Tensor:
    """``(K, h, w)`` at points in cells: ``(K, n)``, bilinear between the cells' centres."""
    height, width = logits.shape[-2:]
    ys = (torch.from_numpy(y) - 0.5).clamp(0, height - 1)
    xs = (torch.from_numpy(x) - 0.5).clamp(0, width - 1)
    top, left = ys.floor().long(), xs.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = ys - top, xs - left
    upper = torch.lerp(logits[:, top, left], logits[:, top, right], across)
    lower = torch.lerp(logits[:, bottom, left], logits[:, bottom, right], across)
    return torch.lerp(upper, lower, down)


def rescore(
    model: ClassModel,
    frozen: Frozen,
    *,
    cache: EmbeddingCache | None = None,
    tiles: Sequence[Sequence[TilePixels]] | None = None,
) -> Scores | None:
    """The scores on what the run holds out; None where that is nothing.

    Raises
    ------
    BadWeightsError
        The model has other classes, or works at another pixel size.
    """
    tally = Tally(model, frozen)
    for said in said_of(model, frozen, held=True, cache=cache, tiles=tiles):
        tally.add(said)
    return tally.scores()


class Tally:
    """Scores, counted tile by tile; see :func:`rescore`.

    Of what is held out; with ``start`` of what says how right the start is (:func:`asked`).
    """

    def __init__(self, model: ClassModel, frozen: Frozen, *, start: bool = False) -> None:
        _check(model, frozen)
        self._frozen, self._n = frozen, len(model.classes) + 1
        self._counted = asked(frozen) if start else [one.held for one in frozen.labels]
        self._names = (background_name(frozen), *model.classes.names)
        self._counts = np.zeros((self._n, self._n), np.int64)
        self._reliability = Reliability.of(np.zeros(0), np.zeros(0, bool))
        self._surprise = 0.0

    def add(self, said: Said) -> None:
        """Count a tile's pixels."""
        mask = self._counted[said.image]
        said = said.only(mask.ravel()[said.pixels.index])
        truth = said.pixels.channel.astype(np.int64)
        self._counts += confusion(truth, said.pred, self._n)
        self._reliability += Reliability.of(said.confidence, said.pred == truth)
        self._surprise -= float(np.log(np.maximum(said.likelihood, 1e-12)).sum())

    def scores(self) -> Scores | None:
        """What was counted; None where that is nothing."""
        total = int(self._counts.sum())
        if not total:
            return None
        return Scores(
            self._counts,
            self._names,
            scored_regions(self._frozen, self._counted),
            self._reliability,
            self._surprise / total,
        )


def background_name(frozen: Frozen) -> str:
    """What a person called background."""
    settings = frozen.run.settings
    named = [c.name for c in settings.classes if c.id == settings.background_id]
    return named[0] if named else "background"


def asked(frozen: Frozen) -> list[NDArray[np.bool_]]:
    """What a start is asked for: all that is painted, it has seen none of it.

    A version of the same lesson has: of that what was painted since, or else what is held out.
    """
    known = any(one.seen is not None for one in frozen.labels)
    return [one.held if known and not frozen.corrects else one.new for one in frozen.labels]


def scored_regions(frozen: Frozen, masks: Sequence[NDArray[np.bool_]]) -> tuple[int, ...]:
    """Separate regions of each channel in these pixels of each image."""
    table = channel_table(frozen)
    found = np.zeros(len(frozen.run.settings.model_classes) + 1, np.int64)
    for one, mask in zip(frozen.labels, masks, strict=True):
        channel = np.where(mask, table[one.labels], -1)
        for c in np.unique(channel[channel >= 0]):
            found[c] += ndimage.label(channel == c, EIGHT)[1]
    return tuple(int(n) for n in found)


def _check(model: ClassModel, frozen: Frozen) -> None:
    network, wanted = model.config, frozen.run.network
    if model.classes.names != frozen.run.settings.model_classes.names:
        raise BadWeightsError(
            f"{model.name} knows {', '.join(model.classes.names)}, and the run's labels are "
            f"{', '.join(frozen.run.settings.model_classes.names)}. Score it with the model that "
            "came out of the run."
        )
    mine, theirs = (
        f"{one.mpp:g} µm per pixel, enlarged {one.enlarge:g} times, on "
        f"{one.base if isinstance(one, PathSamConfig) else 'pixels'}"
        for one in (network, wanted)
    )
    if mine != theirs:
        raise BadWeightsError(
            f"{model.name} works at {mine}, the run at {theirs}: their scores cannot be compared."
        )


@dataclass(frozen=True)
class WorstRegion:
    """A painted region that the model sees in another way.

    ``disagreement`` is the part of its pixels that the model gives to another class; ``said`` is
    the class it gives most of them to.
    """

    image: int
    image_name: str
    region: Region
    class_name: str
    said: str
    n_px: int
    disagreement: float


def worst_regions(
    model: ClassModel,
    frozen: Frozen,
    *,
    cache: EmbeddingCache | None = None,
    n: int = 10,
    smallest_px: int = 16,
) -> list[WorstRegion]:
    """The regions trained on that the model disagrees with most, worst first; level-0 regions."""
    _check(model, frozen)
    names = (background_name(frozen), *model.classes.names)
    preds = [np.full(one.labels.size, -1, np.int16) for one in frozen.labels]
    for said in said_of(model, frozen, held=False, cache=cache):
        preds[said.image][said.pixels.index] = said.pred
    table = channel_table(frozen)
    found = []
    for image, (one, record) in enumerate(zip(frozen.labels, frozen.run.images, strict=True)):
        trained = np.where(one.held | (one.labels == BACKGROUND), 0, one.labels)
        areas = separate_regions(trained).areas
        pred = preds[image].reshape(areas.shape)
        for number, box in enumerate(ndimage.find_objects(areas), start=1):
            if box is None:
                continue
            inside = areas[box] == number
            own = pred[box][inside]
            truth = int(table[trained[box][inside][0]])
            wrong = own != truth
            if len(own) < smallest_px or not wrong.any():
                continue
            at = Region(
                box[0].start + record.labels_at.y, box[1].start + record.labels_at.x,
                *inside.shape,
            )  # fmt: skip
            most = int(np.bincount(own[wrong], minlength=len(names)).argmax())
            found.append(
                WorstRegion(
                    image, record.name, at, names[truth], names[most], len(own), float(wrong.mean())
                )
            )
    found.sort(key=lambda r: (-r.disagreement * r.n_px**0.5, r.image, r.region.y, r.region.x))
    return found[:n]
