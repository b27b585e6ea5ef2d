"""File > Open Sample: the packaged images as napari layers, in µm."""

from __future__ import annotations

from typing import Any

from napari_pathsam.samples import load_sample

LayerData = tuple[Any, dict[str, Any], str]


def skin() -> list[LayerData]:
    """A hair follicle in skin, without labels."""
    return _layers("skin")


def colon_normal() -> list[LayerData]:
    """Normal colon glands, with their labels."""
    return _layers("colon_normal")


def colon_low_grade() -> list[LayerData]:
    """Colon glands with low-grade neoplasia, with their labels."""
    return _layers("colon_low_grade")


def breast_1() -> list[LayerData]:
    """Nuclei of a triple-negative breast cancer, with their labels."""
    return _layers("breast_1")


def breast_2() -> list[LayerData]:
    """Nuclei of another triple-negative breast cancer, with their labels."""
    return _layers("breast_2")


def _layers(name: str) -> list[LayerData]:
    sample = load_sample(name)
    # Both layers carry the same frame: layers in different units do not line up in napari.
    frame = {"scale": (sample.mpp, sample.mpp), "units": ("um", "um")}
    credit = sample.info.model_dump(include={"licence", "attribution", "source", "changes"})
    image = {"name": sample.info.title, "rgb": True, "metadata": credit, **frame}
    layers: list[LayerData] = [(sample.image, image, "image")]
    if sample.labels is not None:
        table = sample.class_table
        names = {
            "index": [0, *(c.id for c in table)],
            "class": ["background", *(c.name for c in table)],
        }
        labels = {"name": f"{sample.info.title}: labels", "features": names, "opacity": 0.5}
        # A copy: the person may paint on it.
        layers.append((sample.labels.copy(), {**labels, **frame}, "labels"))
    return layers
