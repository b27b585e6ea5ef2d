"""Label digital pathology images: the public API, imported lazily.

``import napari_pathsam as ps`` costs nothing: each name below is imported from its own module
when it is first used, so neither torch nor napari is loaded before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable as ClassTable
    from napari_pathsam.core.prompts import Prompts as Prompts
    from napari_pathsam.evaluation.evaluate import evaluate as evaluate
    from napari_pathsam.evaluation.prompting import evaluate_prompts as evaluate_prompts
    from napari_pathsam.inference.class_maps import segment_classes as segment_classes
    from napari_pathsam.inference.class_maps import segment_tiles as segment_tiles
    from napari_pathsam.inference.slide import segment_slide as segment_slide
    from napari_pathsam.io.slides import open_slide as open_slide
    from napari_pathsam.models.catalogue import load_model as load_model
    from napari_pathsam.samples import load_sample as load_sample
    from napari_pathsam.training.class_config import TrainConfig as TrainConfig
    from napari_pathsam.training.class_fit import fit as fit

_HOME = {
    "ClassTable": "core.classes",
    "Prompts": "core.prompts",
    "TrainConfig": "training.class_config",
    "evaluate": "evaluation.evaluate",
    "evaluate_prompts": "evaluation.prompting",
    "fit": "training.class_fit",
    "load_model": "models.catalogue",
    "load_sample": "samples",
    "open_slide": "io.slides",
    "segment_classes": "inference.class_maps",
    "segment_slide": "inference.slide",
    "segment_tiles": "inference.class_maps",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOME:
        value = getattr(import_module(f"napari_pathsam.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'napari_pathsam' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("napari-pathsam")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "unknown"
