"""What a class map of one image scored, as counts; and as a line of a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core import metrics
from napari_pathsam.core.boundary_metrics import BoundaryCounts
from napari_pathsam.core.instance_metrics import InstanceCounts
from napari_pathsam.core.object_metrics import ObjectCounts
from napari_pathsam.core.published_metrics import DtuFigures

PixelSize = Literal["given", "nominal", "model"]
"""Whose pixel size was taken: the image's, the data set's estimate, the model's own."""


@dataclass(frozen=True)
class TileAnswer:
    """A homogeneous tile: the position of its class, and of the one found on most of it."""

    target: int
    found: int


@dataclass(frozen=True)
class ClassScore:
    """One image's counts; ``done`` of ``total`` images are finished.

    Attributes
    ----------
    names
        ``("background", first class, …)``: what the positions stand for.
    counts
        ``(K + 1, K + 1)`` pixels, ``[label, prediction]``, background first.
    objects, instances
        Of instance labels only.
    sizes
        The area in pixels of each labelled object and its Dice with the prediction it shares most
        with; where labels have no objects, of each area of a class that hangs together.
    boundary
        None for homogeneous tiles, which have none.
    tile
        Of homogeneous tiles only.
    mpp, pixel_size
        Microns per pixel that were taken for the image, and whose they are.
    confidence
        Counts of :func:`~napari_pathsam.core.calibration.count_confidence`, of models that give
        probabilities.
    by_class
        Counts of the objects of each class, of labels that have objects and their classes.
    dtu
        Figures as that report computed them, where they were asked for.
    """

    name: str
    group: str
    done: int
    total: int
    names: tuple[str, ...]
    counts: metrics.Counts
    objects: ObjectCounts | None
    boundary: BoundaryCounts | None
    tile: TileAnswer | None
    mpp: float
    pixel_size: PixelSize
    seconds: float
    instances: InstanceCounts | None = None
    sizes: tuple[tuple[int, float], ...] = ()
    confidence: NDArray[np.float64] | None = None
    dtu: DtuFigures | None = None
    by_class: tuple[InstanceCounts, ...] = ()

    def to_values(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        arrays = {"counts": self.counts.tolist()}
        if self.confidence is not None:
            arrays["confidence"] = self.confidence.tolist()
        return asdict(self) | arrays

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> ClassScore:
        """Back from :meth:`to_values`; KeyError, TypeError or ValueError for anything else."""
        parts = {
            name: None if values[name] is None else part(**values[name])
            for name, part in _PARTS.items()
        }
        if parts["instances"] is not None:
            parts["instances"] = _counts(values["instances"])
        confidence = values["confidence"]
        arrays = {
            "names": tuple(values["names"]),
            "counts": np.array(values["counts"], np.int64),
            "sizes": tuple((int(a), float(d)) for a, d in values["sizes"]),
            "by_class": tuple(_counts(one) for one in values["by_class"]),
            "confidence": None if confidence is None else np.array(confidence, float),
        }
        return cls(**(values | parts | arrays))


def _counts(values: dict[str, Any]) -> InstanceCounts:
    return InstanceCounts(**(values | {"n_found": tuple(values["n_found"])}))


_PARTS: dict[str, Any] = {
    "objects": ObjectCounts,
    "boundary": BoundaryCounts,
    "tile": TileAnswer,
    "instances": InstanceCounts,
    "dtu": DtuFigures,
}
