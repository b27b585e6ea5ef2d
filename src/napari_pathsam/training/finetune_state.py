"""An interrupted fine-tuning on disk: everything that is needed to end with the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.io._files import replacing
from napari_pathsam.training.finetune_report import Scores, Weights

if TYPE_CHECKING:
    from napari_pathsam.training.finetune import Teacher


@dataclass(frozen=True)
class Best:
    """The best weights so far, of which epoch (0: the start), and their score."""

    epoch: int
    scores: Scores | None
    weights: Weights

    def worse_than(self, scores: Scores | None) -> bool:
        """Whether other weights are better: more Dice, or as much and less surprise."""
        if scores is None or self.scores is None:
            return True
        mine, other = self.scores, scores
        return (other.mean_dice, -other.nll) > (mine.mean_dice, -mine.nll)


def save_state(teacher: Teacher, path: Path) -> None:
    """Write what :func:`load_state` needs, whole or not at all."""
    best = teacher.best
    state: dict[str, Any] = {
        "digest": teacher.frozen.digest,
        "now": {n: p.detach().cpu() for n, p in teacher.trained.items()},
        "average": {n: t.cpu() for n, t in teacher.average.items()},
        "best": dict(best.weights),
        "best_epoch": best.epoch,
        "best_scores": None if best.scores is None else best.scores.to_json(),
        "optimizer": teacher.optimizer.state_dict(),
        "counters": [teacher.batch, teacher.step, teacher.epoch, teacher.since_best],
        "notes": list(teacher.notes),
    }
    with replacing(path) as unfinished:
        torch.save(state, unfinished)


@torch.no_grad()
def load_state(teacher: Teacher, path: Path) -> None:
    """Go on from :func:`save_state`.

    Raises
    ------
    BadFileError
        It is damaged, or of another run.
    """
    try:
        state = torch.load(path, weights_only=True, map_location=teacher.model.device)
        if state["digest"] != teacher.frozen.digest:
            raise ValueError("it is of another run")
        for name, value in teacher.trained.items():
            value.copy_(state["now"][name])
            teacher.average[name].copy_(state["average"][name])
        scores = state["best_scores"]
        teacher.best = Best(
            int(state["best_epoch"]),
            None if scores is None else Scores.from_json(scores),
            {n: t.cpu() for n, t in state["best"].items()},
        )
        teacher.optimizer.load_state_dict(state["optimizer"])
        teacher.batch, teacher.step, teacher.epoch, teacher.since_best = map(int, state["counters"])
        teacher.notes = [str(note) for note in state["notes"]]
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, OSError,
            UnpicklingError) as error:  # fmt: skip
        raise BadFileError(
            f"Training cannot go on from {path}: {error}. Remove it to start anew."
        ) from error
