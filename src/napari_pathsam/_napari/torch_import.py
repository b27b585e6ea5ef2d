"""Torch inside a running viewer: what has to be done before it is imported there."""

from __future__ import annotations

import sys
from typing import Any

from napari_pathsam.core.errors import UnavailableError


def keep_triton_out() -> None:
    """Let nobody import triton into a process that draws, where it is not there already.

    torchvision imports it where it is installed, and it brings an LLVM of its own; so does Mesa's
    software OpenGL, and whichever comes second ends the process. Nothing here compiles with triton.
    """
    if sys.platform == "linux":
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]


def load_torch() -> Any:
    """The torch module.

    Raises
    ------
    UnavailableError
        When torch cannot be loaded; it says what to do.
    """
    keep_triton_out()
    try:
        import torch
    except (OSError, ImportError) as error:
        raise UnavailableError(torch_error_text(error)) from error
    return torch


def torch_error_text(error: BaseException) -> str:
    """What to tell a person when torch cannot be imported."""
    return (
        f"PyTorch could not be loaded ({error}). On Windows this happens when a Qt library was "
        "loaded first, or when the Microsoft Visual C++ runtime is missing. Close napari and "
        "start it with the command “napari-pathsam”, which loads PyTorch first; if that fails "
        "too, install the “Visual C++ Redistributable” of Microsoft and try again. "
        "Everything you accepted so far is saved."
    )
