"""The images that come with the package: real histology, openly licensed, some with labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.errors import UnavailableError


class SampleInfo(BaseModel):
    """What ``samples.json`` says of one image; ``classes[i]`` is the name of label ``i + 1``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    mpp: float
    classes: tuple[str, ...]
    licence: Literal["CC0-1.0", "CC-BY-4.0"]
    attribution: str
    source: str
    changes: str


@dataclass(frozen=True)
class SampleImage:
    """One packaged image: ``image`` ``(H, W, 3)`` uint8, ``labels`` ``(H, W)`` uint8 or None."""

    info: SampleInfo
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None

    @property
    def mpp(self) -> float:
        return self.info.mpp

    @property
    def class_table(self) -> ClassTable:
        return ClassTable.of(*self.info.classes)


@cache
def list_samples() -> tuple[SampleInfo, ...]:
    """What comes with the package, in the order of the menu."""
    listed = json.loads((_folder() / "samples.json").read_text(encoding="utf-8"))
    return tuple(SampleInfo(**entry) for entry in listed)


def load_sample(name: str) -> SampleImage:
    """Read one packaged image and its labels.

    Raises
    ------
    UnavailableError
        If no sample has this name; the message lists those there are.
    """
    known = {info.name: info for info in list_samples()}
    if name not in known:
        raise UnavailableError(
            f"There is no sample named {name!r}. These come with the package: {', '.join(known)}."
        )
    info = known[name]
    labels = _pixels(f"{name}_labels.png", "1").astype(np.uint8) if info.classes else None
    return SampleImage(info, _pixels(f"{name}.webp", "RGB"), labels)


def _folder() -> Traversable:
    return files("napari_pathsam.samples")


def _pixels(file_name: str, mode: str) -> NDArray[np.uint8]:
    with (_folder() / file_name).open("rb") as file, Image.open(file) as picture:
        return np.asarray(picture.convert(mode))
