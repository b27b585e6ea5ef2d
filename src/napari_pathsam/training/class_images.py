"""Labelled samples as training images: at the model's pixel size, as many as memory holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import BadFileError, BadImageError, BadLabelsError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.splitting import gaps_between
from napari_pathsam.datasets.ahead import Ahead
from napari_pathsam.datasets.base import Sample
from napari_pathsam.io._identity import identity_of_pixels
from napari_pathsam.io.slides import ArraySlide

IGNORE = -1
"""Target of pixels nobody labelled."""
KEPT_BYTES = 4 * 2**30
"""Images of a run beyond this are read from disk again each time they are needed."""


@dataclass(frozen=True)
class TrainingImage:
    """An image at the model's pixel size and what is known of it.

    Attributes
    ----------
    image
        ``(H, W, 3)`` uint8.
    target
        ``(H, W)`` int16: channel numbers, 0 background, :data:`IGNORE` where nobody labelled. Gaps
        between objects, where they are wanted, have the number after the last class.
    group
        Patient, slide or case.
    objects
        ``(H, W)`` int32: ids of objects, where they are known and wanted.
    """

    image: NDArray[np.uint8]
    target: NDArray[np.int16]
    name: str = ""
    group: str = ""
    objects: NDArray[np.int32] | None = None

    @property
    def shape_yx(self) -> tuple[int, int]:
        return (self.target.shape[0], self.target.shape[1])

    @cached_property
    def channels(self) -> frozenset[int]:
        """Channel numbers that occur."""
        return frozenset(int(c) for c in np.unique(self.target) if c >= 0)

    @cached_property
    def foreground(self) -> float:
        """Share of pixels that are of a class."""
        return float((self.target > 0).mean())

    @cached_property
    def digests(self) -> tuple[str, str]:
        """What tells the pixels, and the labels, from all others."""
        labels = identity_of_pixels(self.target)
        if self.objects is not None:
            labels += identity_of_pixels(self.objects)
        return identity_of_pixels(self.image), labels

    @property
    def nbytes(self) -> int:
        ids = 0 if self.objects is None else self.objects.nbytes
        return self.image.nbytes + self.target.nbytes + ids


@dataclass
class ImageStore:
    """The images that were looked at last, as many as ``limit_bytes`` holds; pickles empty."""

    limit_bytes: int = KEPT_BYTES
    _kept: OrderedDict[Sample, TrainingImage] = field(default_factory=OrderedDict, repr=False)
    _bytes: int = field(default=0, repr=False)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, sample: Sample, read: Callable[[Sample], TrainingImage]) -> TrainingImage:
        """The image of a sample, kept or read."""
        if sample in self._kept:
            self._kept.move_to_end(sample)
            return self._kept[sample]
        found = read(sample)
        self.put(sample, found)
        return found

    def put(self, sample: Sample, image: TrainingImage) -> None:
        """Keep an image, and drop those looked at longest ago where there is no room."""
        self._kept[sample] = image
        self._bytes += image.nbytes
        while self._bytes > self.limit_bytes and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def __getstate__(self) -> dict[str, int]:
        return {"limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class StoredImage(TrainingImage):
    """A training image whose pixels are read when they are looked at, through a store."""

    def __init__(
        self,
        sample: Sample,
        read: Callable[[Sample], TrainingImage],
        store: ImageStore,
        seen: TrainingImage,
    ) -> None:
        known = {
            "name": seen.name, "group": seen.group, "_sample": sample, "_read": read,
            "_store": store, "_shape_yx": seen.shape_yx, "channels": seen.channels,
            "foreground": seen.foreground, "digests": seen.digests,
        }  # fmt: skip
        self.__dict__.update(known)

    @property
    def _now(self) -> TrainingImage:
        return self._store.get(self._sample, self._read)  # type: ignore[attr-defined]

    @property
    def image(self) -> NDArray[np.uint8]:
        return self._now.image

    @property
    def target(self) -> NDArray[np.int16]:
        return self._now.target

    @property
    def objects(self) -> NDArray[np.int32] | None:
        return self._now.objects

    @property
    def shape_yx(self) -> tuple[int, int]:
        return self._shape_yx  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Reading:
    """How a sample becomes a training image; a value that travels to worker processes.

    ``mpp`` is the model's; ``assumed_mpp`` that of samples that do not say theirs. With ``objects``
    the ids of instances are kept beside their class. With ``gap_um`` background between two objects
    that are no further apart is marked.
    """

    classes: ClassTable
    mpp: float
    assumed_mpp: float | None = None
    sparse: bool = False
    objects: bool = False
    gap_um: float | None = None

    def __call__(self, sample: Sample) -> TrainingImage:
        image, labels = sample.load()
        ids = labels if sample.label_kind == "instances" else None
        if sample.label_kind in ("instances", "binary") and sample.class_id is None:
            labels = (labels != 0).astype(np.uint8) * next(iter(self.classes)).id
        try:
            target = channels_of(labels, self.classes, sparse=self.sparse)
        except BadFileError as error:
            raise BadFileError(f"{sample.labels_path}: {error}") from error
        own = sample.mpp or self.assumed_mpp or self.mpp
        pixels, target = at_mpp(image, target, own, self.mpp)
        found = None if ids is None else nearest(ids, target.shape).astype(np.int32)
        if self.gap_um is not None:
            target = with_gaps(target, found, self.gap_um / self.mpp, len(self.classes) + 1)
        kept = found if self.objects else None
        return TrainingImage(pixels, target, sample.name, sample.group, kept)


def with_gaps(
    target: NDArray[np.int16], ids: NDArray[np.int32] | None, widest_px: float, channel: int
) -> NDArray[np.int16]:
    """``(H, W)`` channel numbers with gaps between objects as a channel of their own.

    Without ids each connected area of a class is an object. What nobody labelled stays so.
    """
    if ids is None:
        ids = np.asarray(label(np.maximum(target, 0), connectivity=2), np.int32)
    gaps = gaps_between(ids, widest_px) & (target >= 0)
    return np.where(gaps, channel, target).astype(np.int16)


def channels_of(
    labels: NDArray, classes: ClassTable, *, ignore_id: int | None = 255, sparse: bool = False
) -> NDArray[np.int16]:
    """Class ids ``(H, W)`` → channel numbers; with ``sparse``, 0 means not labelled, too.

    Raises
    ------
    BadFileError
        An id is in the labels and not in the table.
    """
    ids = [0, *(c.id for c in classes)]
    table = np.full(256, -2, np.int16)
    table[ids] = np.arange(len(ids))
    if sparse:
        table[0] = IGNORE
    if ignore_id is not None:
        table[ignore_id] = IGNORE
    found = np.unique(labels)
    strange = [int(i) for i in found if not 0 <= i <= 255 or table[i] == -2]
    if strange:
        raise BadFileError(
            f"The labels hold the ids {', '.join(map(str, strange[:8]))}, which are none of the "
            f"classes ({', '.join(f'{c.id} {c.name}' for c in classes)}). Add them to the class "
            "table, or map them onto one of it."
        )
    channels: NDArray[np.int16] = table[labels.astype(np.int64)]
    return channels


def at_mpp(
    image: NDArray[np.uint8], target: NDArray[np.int16], mpp: float, wanted: float
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Image and target at another pixel size: averaged or bilinear, and nearest."""
    height, width = target.shape
    size = (max(1, round(height * mpp / wanted)), max(1, round(width * mpp / wanted)))
    if size == target.shape:
        return image, target
    pixels = np.asarray(ArraySlide(image).read_resampled(Region.of(target.shape), size))
    return pixels, nearest(target, size)


def nearest(labels: NDArray, shape_yx: tuple[int, ...]) -> NDArray:
    """Labels ``(H, W)`` at another size, by nearest neighbour."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * old / n).astype(int), old - 1)
        for n, old in zip(shape_yx, labels.shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]


def refuse_one_class(images: Iterable[TrainingImage], classes: ClassTable) -> None:
    """BadLabelsError where all that is labelled is of one class: it would be painted everywhere."""
    found = sorted(frozenset().union(*(one.channels for one in images)))
    if len(found) == 1:
        name = ["background", *classes.names, "gaps"][found[0]]
        raise BadLabelsError(
            f"Only one class is labelled, “{name}”, and a model needs something to tell it from: "
            "label a second class, or some background as a class of its own. If what is not "
            "labelled is background, leave out --sparse."
        )


def load_images(
    samples: Iterable[Sample],
    classes: ClassTable,
    *,
    mpp: float,
    assumed_mpp: float | None = None,
    sparse: bool = False,
    objects: bool = False,
    gap_um: float | None = None,
    store: ImageStore | None = None,
    workers: int = 0,
) -> list[TrainingImage]:
    """Read samples at the model's pixel size.

    All are read once, and what is wrong with any is told before training begins; those that the
    store has no room for are read again whenever they are needed.

    Parameters
    ----------
    mpp
        What the model wants, µm per pixel.
    assumed_mpp
        Of samples that do not say theirs; None: they are taken as they are.
    sparse
        Whether background is only what is labelled so by another id.
    objects
        Whether ids of instances are kept, too.
    gap_um
        Gaps between objects up to this width are marked as a channel of their own.
    store
        Keeps the pixels; by default up to :data:`KEPT_BYTES` of them.
    workers
        Processes that read; 0: this one.

    Raises
    ------
    BadFileError, BadImageError
        A file is damaged, or a label has an id that is no class.
    """
    read = Reading(classes, mpp, assumed_mpp, sparse, objects, gap_um)
    store = ImageStore() if store is None else store
    listed = list(samples)
    found: list[TrainingImage] = []
    with Ahead(read, workers) as ahead:
        for sample, one in zip(listed, ahead.map(listed), strict=True):
            if one.channels:
                store.put(sample, one)
                found.append(StoredImage(sample, read, store, one))
    if not found:
        raise BadImageError(
            "There is nothing to learn from: no image has a labelled pixel. Paint at least one "
            "region of each class, or check the label folder."
        )
    return found
