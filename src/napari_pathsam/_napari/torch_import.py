"""Torch inside a running viewer: what has to be done before it is imported there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from napari_pathsam.core.errors import UnavailableError


def load_torch() -> Any:
    """The torch module.

    Raises
    ------
    UnavailableError
        When torch cannot be loaded; it says what to do.
    """
    if "triton" not in sys.modules and mesa_llvm_is_loaded():
        # torchvision imports triton where it is installed, and triton brings an LLVM of its own:
        # beside Mesa's that ends the process. Nothing here compiles with triton.
        sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        import torch
    except (OSError, ImportError) as error:
        raise UnavailableError(torch_error_text(error)) from error
    return torch


def mesa_llvm_is_loaded(maps: Path = Path("/proc/self/maps")) -> bool:
    """Whether a Mesa driver has loaded its LLVM into this process (Linux only)."""
    try:
        return "libLLVM" in maps.read_text()
    except OSError:
        return False


def torch_error_text(error: BaseException) -> str:
    """What to tell a person when torch cannot be imported."""
    return (
        f"PyTorch could not be loaded ({error}). On Windows this happens when a Qt library was "
        "loaded first, or when the Microsoft Visual C++ runtime is missing. Close napari and "
        "start it with the command “napari-pathsam”, which loads PyTorch first; if that fails "
        "too, install the “Visual C++ Redistributable” of Microsoft and try again. "
        "Everything you accepted so far is saved."
    )
