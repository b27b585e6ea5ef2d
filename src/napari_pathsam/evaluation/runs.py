"""A run of ``pathsam evaluate`` in a folder: what it was made with, a line a finished image.

``run.json`` says which model (with the SHA-256 of its weights), data, settings and versions;
``scores.jsonl`` holds the counts of each image as it is finished, so a run that was stopped goes on
where it was, two runs can be compared image by image, and figures can be made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.datasets.base import Sample
from napari_pathsam.evaluation.class_scores import ClassScore
from napari_pathsam.evaluation.everything import EverythingScore
from napari_pathsam.evaluation.prompting import ImageScore
from napari_pathsam.io._files import replacing

Score = ClassScore | ImageScore | EverythingScore
SCORES: dict[str, type[ClassScore] | type[ImageScore] | type[EverythingScore]] = {
    "classes": ClassScore,
    "prompts": ImageScore,
    "everything": EverythingScore,
}
"""By task."""
CARD, LINES, REPORT = "run.json", "scores.jsonl", "report.json"


class RunCard(BaseModel):
    """Everything figures depend on; two runs with equal cards give equal figures.

    ``images`` is the SHA-256 of the names, groups and file sizes of the images, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights_sha256: dict[str, str]
    dataset: str
    split: str
    task: str
    n_images: int
    images: str
    settings: dict[str, Any]
    versions: dict[str, str]


def images_sha256(samples: Sequence[Sample]) -> str:
    """Changes when an image or its labels come, go, or change in size."""
    told = hashlib.sha256()
    for s in samples:
        sizes = [p.stat().st_size for p in (s.image_path, s.labels_path) if p and p.is_file()]
        told.update(repr((s.name, s.group, s.mpp, s.label_kind, sizes)).encode())
    return told.hexdigest()


class Run:
    """A folder with a card and scores.

    Parameters
    ----------
    folder
        Of one run alone.
    card
        What the run is made with.
    scores
        Of images that were finished before.
    """

    def __init__(self, folder: Path, card: RunCard, scores: Sequence[Score] = ()) -> None:
        self.folder, self.card = folder, card
        self.scores = list(scores)

    @classmethod
    def begin(cls, folder: Path, card: RunCard, *, resume: bool = False) -> Run:
        """A new run, or one that goes on.

        Raises
        ------
        BadFileError
            There is a run in the folder and ``resume`` is off, or it was made with something else,
            which the message names.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CARD).exists() and not resume:
            raise BadFileError(
                f"{folder} holds a run already. --resume goes on with it, or shows it again when "
                "it is finished; another folder with --out begins anew."
            )
        if (folder / CARD).exists():
            before = read_card(folder)
            ours, theirs = card.model_dump(), before.model_dump()
            changed = [key for key, value in ours.items() if theirs[key] != value]
            if changed:
                raise BadFileError(
                    f"The run in {folder} was made with other {', '.join(changed)}: "
                    f"{_short(theirs[changed[0]])} then, {_short(ours[changed[0]])} now. Its "
                    "images cannot be counted together; choose another folder with --out."
                )
            return cls(folder, card, _read_scores(folder, before))
        with replacing(folder / CARD) as temporary:
            temporary.write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return cls(folder, card)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """A finished run; BadFileError where it is none, or is not finished."""
        card = read_card(folder)
        scores = _read_scores(folder, card)
        if len(scores) != card.n_images:
            raise BadFileError(
                f"The run in {folder} was stopped after {len(scores)} of {card.n_images} images. "
                "`pathsam evaluate` with the same options and --resume finishes it."
            )
        return cls(folder, card, scores)

    def left(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples that are not finished."""
        done = {s.name for s in self.scores}
        return [s for s in samples if s.name not in done]

    def keep(self, scores: Iterator[Score]) -> Iterator[Score]:
        """The scores of :meth:`left`, counted on and written down, each before it is yielded."""
        with (self.folder / LINES).open("a", encoding="utf-8") as file:
            for score in scores:
                counted = replace(score, done=len(self.scores) + 1, total=self.card.n_images)
                file.write(json.dumps(counted.to_values()) + "\n")
                file.flush()
                self.scores.append(counted)
                yield counted


def read_card(folder: Path) -> RunCard:
    """The card of a run's folder; BadFileError says what is wrong."""
    path = folder / CARD
    try:
        return RunCard.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFileError(
            f"{folder} holds no run ({CARD} is not there). `pathsam evaluate --out {folder.name}` "
            "makes one."
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from error


def _read_scores(folder: Path, card: RunCard) -> list[Score]:
    """The lines of the file; a last one that was cut short is taken off it."""
    path = folder / LINES
    if not path.exists():
        return []
    found: list[Score] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("it ends in the middle")
            found.append(SCORES[card.task].of_values(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise BadFileError(
                    f"Line {number} of {path} is damaged ({error}). Delete the folder, run again."
                ) from error
            with path.open("r+b") as file:
                file.truncate(sum(len(before) for before in lines[:-1]))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
