"""Places: where on this machine things of ours lie."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """What can be fetched or made again; the variable NAPARI_PATHSAM_CACHE names another one."""
    base = os.environ.get("NAPARI_PATHSAM_CACHE") or user_cache_dir("napari-pathsam", False)
    return Path(base)
