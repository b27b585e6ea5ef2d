"""Report: what was measured, on what, with which settings and versions; one JSON file."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from napari_pathsam.io._files import replacing

PACKAGES = ("napari-pathsam", "torch", "sam2", "timm", "numpy", "scipy", "scikit-image", "pillow")


def versions() -> dict[str, str]:
    """Of Python and of the packages a figure depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def drawn_from(n_groups: int, n_images: int) -> str:
    """What intervals are over: "2 patients, slides or cases"; images where nobody says more."""
    if n_groups == n_images:
        return f"{n_images} images, each taken for a patient of its own"
    return f"{n_groups} patients, slides or cases"


class Report(BaseModel):
    """What was measured; every figure can be traced to the command that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    dataset: str
    split: str
    task: str
    n_images: int
    metrics: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str] = Field(default_factory=versions)

    @property
    def drawn(self) -> str:
        """What intervals are over, see :func:`drawn_from`."""
        return drawn_from(self.metrics["intervals"]["groups"], self.n_images)

    def to_json(self) -> str:
        """Strict JSON: what could not be measured is null, not NaN."""
        return strict_json(self.model_dump())

    def write(self, path: Path) -> None:
        """Write the JSON file whole, or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")


def strict_json(values: Mapping[str, Any]) -> str:
    """JSON that any reader takes: what is not finite is null."""
    return json.dumps(_finite(values), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
