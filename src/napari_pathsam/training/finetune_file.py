"""Fine-tuning on disk: a frozen run in one file, and what came out of it as a model file.

A run's file is a compressed NumPy archive: ``run`` (JSON), ``labels_I`` and ``held_I`` of each
image, ``pixels_I_T`` of each tile, and where it was trained ``scores`` (JSON) and the weights.
Loading it executes nothing.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from napari_pathsam.core.errors import BadFileError, UnavailableError
from napari_pathsam.io._files import existing_file, replacing
from napari_pathsam.models.head_file import save_head
from napari_pathsam.models.model_file import ModelCard
from napari_pathsam.models.pathsam_config import Part
from napari_pathsam.models.task_file import save_task
from napari_pathsam.models.task_model import TaskModel
from napari_pathsam.training.finetune import Taught
from napari_pathsam.training.finetune_config import TRAINED
from napari_pathsam.training.finetune_report import Scores, Weights
from napari_pathsam.training.finetune_run import FineTuneRun, Frozen, RunImage, RunLabels

RUN_SUFFIX = ".run.npz"
LARGEST_PX = 2**30
"""Pixels of an array in a run's file; more is taken for a mistake."""


@dataclass(frozen=True)
class Outcome:
    """What training a run gave: its best weights, of which epoch, and the score they earned."""

    weights: Weights
    scores: Scores | None
    epoch: int


def write_run(path: str | Path, frozen: Frozen, outcome: Taught | Outcome | None = None) -> None:
    """Write a run, and what it gave where that is known; whole or not at all."""
    arrays: dict[str, Any] = {"run": _bytes(frozen.run.model_dump_json())}
    for i, (one, tiles) in enumerate(zip(frozen.labels, frozen.pixels, strict=True)):
        arrays |= {f"labels_{i}": one.labels, f"held_{i}": one.held}
        arrays |= {} if one.seen is None else {f"seen_{i}": one.seen}
        arrays |= {f"pixels_{i}_{t}": pixels for t, pixels in enumerate(tiles)}
    if outcome is not None:
        arrays |= _arrays_of(outcome)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)


def add_outcome(path: Path, taught: Taught) -> None:
    """Write what a run gave into its file, without packing all pixels again."""
    with replacing(path) as unfinished:
        shutil.copyfile(path, unfinished)
        with zipfile.ZipFile(unfinished, "a", zipfile.ZIP_DEFLATED) as archive:
            if "scores.npy" not in archive.namelist():
                for name, array in _arrays_of(taught).items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, array, allow_pickle=False)
                return
    write_run(path, taught.frozen, taught)


def _arrays_of(outcome: Taught | Outcome) -> dict[str, NDArray]:
    scores = None if outcome.scores is None else outcome.scores.to_json()
    return {"scores": _bytes(json.dumps({"epoch": outcome.epoch, "scores": scores}))} | {
        f"weights/{name}": t.cpu().numpy() for name, t in outcome.weights.items()
    }


def read_run(path: str | Path) -> tuple[Frozen, Outcome | None]:
    """Read :func:`write_run`'s file; BadFileError where it is damaged, foreign or incomplete."""
    with _opened(path) as found:
        run, labels = _run_and_labels(found)
        pixels = []
        for i, image in enumerate(run.images):
            tiles = []
            for t, box in enumerate(image.tiles):
                size = image.grid.pixels_of(box.region)[2]
                tiles.append(_checked(found[f"pixels_{i}_{t}"], np.uint8, (*size, 3)))
            pixels.append(tuple(tiles))
        outcome = _outcome(found) if "scores" in found else None
    return Frozen(run, labels, tuple(pixels)), outcome


def read_painted(path: str | Path) -> tuple[tuple[RunImage, RunLabels], ...]:
    """:attr:`Frozen.painted` of a run's file, without reading its pixels."""
    with _opened(path) as found:
        run, labels = _run_and_labels(found)
    return tuple(zip(run.images, labels, strict=True))


@contextmanager
def _opened(path: str | Path) -> Iterator[Mapping[str, NDArray]]:
    """The arrays of a run's file; BadFileError where it, or one of them, is not what it must be."""
    path = existing_file(path, wanted="a fine-tuning run (.run.npz)")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            yield found
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadFileError(
            f"{path.name} is no fine-tuning run of this program, or it is damaged ({why}). Nothing "
            "was loaded; export it again."
        ) from error


def _run_and_labels(found: Mapping[str, NDArray]) -> tuple[FineTuneRun, tuple[RunLabels, ...]]:
    run = FineTuneRun.model_validate_json(_text(found["run"]))
    labels = []
    for i, image in enumerate(run.images):
        shape = image.labels_at.region.shape_yx
        seen = found.get(f"seen_{i}")
        labels.append(
            RunLabels(
                _checked(found[f"labels_{i}"], np.uint8, shape),
                _checked(found[f"held_{i}"], np.bool_, shape),
                None if seen is None else _checked(seen, np.uint8, shape),
            )
        )
    return run, tuple(labels)


def _outcome(found: Mapping[str, NDArray]) -> Outcome:
    about = json.loads(_text(found["scores"]))
    scores = None if about["scores"] is None else Scores.from_json(about["scores"])
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(found[name])
        for name in found
        if name.startswith("weights/")
    }
    return Outcome(weights, scores, int(about["epoch"]))


def _checked(array: NDArray, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if array.dtype != dtype or array.shape != shape or array.size > LARGEST_PX:
        raise ValueError(f"an array of {array.shape} came where {shape} belongs")
    return array


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _text(array: NDArray[np.uint8]) -> str:
    return array.tobytes().decode()


def saved_parts(frozen: Frozen) -> tuple[Part, ...]:
    """The parts a model file of this run must hold: trained ones, and those a head brought."""
    run = frozen.run
    return TRAINED[-1] if run.start is not None else run.settings.config.parts


def save_taught(
    path: str | Path, taught: Taught, *, note: str = "", more: Mapping[str, JsonValue] | None = None
) -> ModelCard:
    """Write the model of a run; its card says from which labels it came and what it scored.

    ``note`` is the person's own; ``more`` are further fields of the provenance.
    """
    frozen = taught.frozen
    scores = None if taught.scores is None else taught.scores.to_json()
    provenance: dict[str, Any] = {
        "fine_tuning": frozen.run.model_dump(mode="json"),
        "digest": frozen.digest,
        "epoch": taught.epoch,
        "scores": scores,
        "note": note,
        "notes": list(taught.notes),
        "date": datetime.now(UTC).date().isoformat(),
    }
    card = {
        "licence": _licence(frozen),
        "base": frozen.run.base,
        "provenance": provenance | dict(more or {}),
    }
    if isinstance(taught.model, TaskModel):
        return save_task(path, taught.model, card)
    return save_head(path, taught.model, card, trained=saved_parts(frozen))


def without_names(provenance: Mapping[str, JsonValue]) -> dict[str, Any]:
    """A provenance that may be sent: images without names, keys and paths, files without folders.

    An image's name may be a patient's number.
    """
    others = {name: told for name, told in provenance.items() if name != "fine_tuning"}
    try:
        run = FineTuneRun.model_validate(provenance.get("fine_tuning"))
    except ValidationError:  # none, or one that this version cannot read: nobody knows what it says
        return others
    images = tuple(
        one.model_copy(update={"name": f"image {n}", "key": "", "path": None})
        for n, one in enumerate(run.images, start=1)
    )
    start, settings = run.start, run.settings
    if start is not None:
        start = start.model_copy(update={"name": Path(start.name).name})
        settings = settings.model_copy(update={"start": start.name})
    told = run.model_copy(update={"images": images, "start": start, "settings": settings})
    return others | {"fine_tuning": told.model_dump(mode="json")}


def _licence(frozen: Frozen) -> str:
    """Whose it is, and what it was made from."""
    from napari_pathsam.models.catalogue import find_entry

    if frozen.run.start is None and not frozen.run.base:
        return "its author's; a network from new"
    name = (frozen.run.start or frozen.run.base[0]).name
    try:
        below = f"{name} ({find_entry(name).licence})"
    except UnavailableError:  # a file of the person's own
        below = Path(name).name
    return f"its author's; fine-tuned from {below}"
