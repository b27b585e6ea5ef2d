"""One entry of the embedding cache: an embedding rounded, and the zipped zarr it is kept in."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor
from zarr.storage import ZipStore

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import reading
from napari_pathsam.models.embedding import ImageEmbedding

Precision = Literal["half", "single"]

META = "napari_pathsam_embedding"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """An embedding as it is kept: on the CPU, rounded, only the ``parts`` that were asked for."""

    embedding: ImageEmbedding
    parts: frozenset[str]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.embedding.nbytes

    @classmethod
    def of(cls, made: ImageEmbedding, parts: frozenset[str], precision: Precision) -> Entry:
        """What is kept of an embedding that was just made."""

        def change(tensor: Tensor) -> Tensor:
            tensor = tensor.detach().to("cpu", torch.float32)
            # A tensor of its own: a view would keep all that it was cut from.
            return half(tensor) if precision == "half" else tensor.contiguous().clone()

        return cls(_mapped(_with_parts(made, parts), change), parts)

    def ready(self, parts: frozenset[str], device: torch.device) -> ImageEmbedding:
        """What a caller gets: float32, its own, on its device."""

        def change(tensor: Tensor) -> Tensor:
            return tensor.to(device).to(torch.float32, copy=True)

        return _mapped(_with_parts(self.embedding, parts), change)


def half(tensor: Tensor) -> Tensor:
    """In half precision, or as it is where a value is too large for that."""
    rounded = tensor.half().contiguous()
    beyond = bool(torch.isinf(rounded).any()) and bool(torch.isfinite(tensor).all())
    return tensor.contiguous().clone() if beyond else rounded


def _with_parts(embedding: ImageEmbedding, parts: frozenset[str]) -> ImageEmbedding:
    """Without the tensors that are not asked for."""
    coarser = embedding.coarser if "coarser" in parts else ()
    return replace(
        embedding,
        image_embed=embedding.image_embed[:, : None if "image_embed" in parts else 0],
        high_res=embedding.high_res if "high_res" in parts else (),
        trunk=embedding.trunk if "trunk" in parts else (),
        pathology=embedding.pathology if "pathology" in parts else None,
        coarser=tuple(_with_parts(level, parts) for level in coarser),
    )


def _mapped(embedding: ImageEmbedding, change: Callable[[Tensor], Tensor]) -> ImageEmbedding:
    return replace(
        embedding,
        image_embed=change(embedding.image_embed),
        high_res=tuple(change(t) for t in embedding.high_res),
        trunk=tuple(change(t) for t in embedding.trunk),
        pathology=None if embedding.pathology is None else change(embedding.pathology),
        coarser=tuple(_mapped(level, change) for level in embedding.coarser),
    )


def write_entry(path: Path, name: str, entry: Entry) -> None:
    """An entry as a zipped zarr group whose attributes say which entry it is, with a checksum.

    Its arrays have one chunk each and are not compressed: half-precision features hardly shrink,
    and would take three times as long to read.
    """
    levels = [entry.embedding, *entry.embedding.coarser]
    tensors: dict[str, Tensor] = {}
    about = []
    for i, level in enumerate(levels):
        tensors[f"{i}.image_embed"] = level.image_embed
        tensors |= {f"{i}.high_res.{j}": t for j, t in enumerate(level.high_res)}
        tensors |= {f"{i}.trunk.{j}": t for j, t in enumerate(level.trunk)}
        if level.pathology is not None:
            tensors[f"{i}.pathology"] = level.pathology
        known = {field: getattr(level, field) for field in ("shape_yx", "input_yx", "model", "mpp")}
        about.append(known | {"high_res": len(level.high_res), "trunk": len(level.trunk)})
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    meta = {"format": 1, "name": name, "parts": sorted(entry.parts), "levels": about}
    meta["checksum"] = _checksum(arrays)
    with ZipStore(path, mode="w") as store:
        group = zarr.create_group(store, attributes={META: meta})
        for key, array in arrays.items():
            chunk = tuple(max(1, n) for n in array.shape)
            group.create_array(key, data=array, chunks=chunk, compressors=None)


def read_entry(path: Path, name: str) -> Entry | None:
    """The entry in a file; None when there is none, or it is torn, foreign or another one's."""
    try:
        os.utime(path)  # used last now
    except OSError:
        return None
    try:
        with reading(path, "an embedding of this cache"), ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            meta: Any = group.attrs[META]
            arrays = {key: np.asarray(array[...]) for key, array in group.arrays()}
            if meta["format"] != 1 or meta["name"] != name:
                raise ValueError("it is another entry")
            if meta["checksum"] != _checksum(arrays):  # a chunk that is not there reads as zeros
                raise ValueError("the checksum is wrong")
            tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
            first, *coarser = (_level(i, level, tensors) for i, level in enumerate(meta["levels"]))
            return Entry(replace(first, coarser=tuple(coarser)), frozenset(meta["parts"]))
    except BadFileError as error:
        logger.warning("It is encoded again: %s", error)
        return None


def _checksum(arrays: dict[str, NDArray[Any]]) -> int:
    found = 0
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        found = zlib.crc32(f"{key} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(array.reshape(-1).view(np.uint8).data, found)
    return found


def _level(i: int, about: dict[str, Any], tensors: dict[str, Tensor]) -> ImageEmbedding:
    height, width = about["shape_yx"]
    h, w = about["input_yx"]
    return ImageEmbedding(
        image_embed=tensors[f"{i}.image_embed"],
        high_res=tuple(tensors[f"{i}.high_res.{j}"] for j in range(about["high_res"])),
        trunk=tuple(tensors[f"{i}.trunk.{j}"] for j in range(about["trunk"])),
        shape_yx=(height, width),
        input_yx=(h, w),
        model=about["model"],
        mpp=about["mpp"],
        pathology=tensors.get(f"{i}.pathology"),
    )
