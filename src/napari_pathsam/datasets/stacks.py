"""Arrays of many images in one ``.npy`` file, read one image at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import existing_file, reading


def open_stack(path: Path, channels: int) -> NDArray:
    """A stack ``(N, H, W, channels)`` mapped from disk: only what is looked at is read.

    Raises
    ------
    BadFileError
        Missing, cut short, of another shape; or a pickle, which is never opened.
    """
    existing_file(path, wanted="a stack of images (.npy)")
    with reading(path, "a stack of images (.npy)"):
        stack: NDArray = np.load(path, mmap_mode="r", allow_pickle=False)
    if stack.ndim != 4 or stack.shape[3] != channels:
        raise BadFileError(
            f"{path} has the shape {stack.shape}; (images, height, width, {channels}) is wanted. "
            "Take the file from the archive again."
        )
    return stack


def same_length(first: tuple[Path, int], *others: tuple[Path, int]) -> None:
    """BadFileError naming the files where stacks that belong together differ in length."""
    for path, n in others:
        if n != first[1]:
            raise BadFileError(
                f"{first[0]} holds {first[1]} images and {path} {n}; they belong together image by "
                "image. Take both from the archive again."
            )
