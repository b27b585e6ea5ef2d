"""An interrupted fine-tuning on disk: everything that is needed to end with the same weights."""

from __future__ import annotations

import math
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
    """The weights to keep, of which epoch (0: the start), their score, and the highest so far.

    A few held-out strokes cannot tell weights apart whose scores are close, and those trained on
    for longer do better on the rest of the image: the newest are kept of all that come within one
    standard error of the highest score (Breiman et al., Classification and Regression Trees, 1984)
    and are not below ``floor``, the score of a start that knows every class: training never gives
    back less than it got.
    """

    epoch: int
    scores: Scores | None
    weights: Weights
    highest: float = -math.inf
    floor: float = -math.inf

    def beaten_by(self, scores: Scores | None) -> bool:
        """Whether newer weights of this score are kept instead."""
        if scores is None or not math.isfinite(scores.mean_dice):
            return True
        return scores.mean_dice >= max(self.floor, self.highest - scores.noise)


def save_state(teacher: Teacher, path: Path) -> None:
    """Write what :func:`load_state` needs, whole or not at all."""
    best = teacher.best
    state: dict[str, Any] = {
        "digest": teacher.frozen.digest,
        "now": {n: p.detach().cpu() for n, p in teacher.moving.items()},
        "average": {n: t.cpu() for n, t in teacher.average.items()},
        "best": dict(best.weights),
        "best_epoch": best.epoch,
        "highest": best.highest,
        "floor": best.floor,
        "learned": teacher.learned,
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
        for name, value in teacher.moving.items():
            value.copy_(state["now"][name])
            teacher.average[name].copy_(state["average"][name])
        scores = state["best_scores"]
        teacher.best = Best(
            int(state["best_epoch"]),
            None if scores is None else Scores.from_json(scores),
            {n: t.cpu() for n, t in state["best"].items()},
            float(state["highest"]),
            float(state["floor"]),
        )
        teacher.learned = float(state["learned"])
        teacher.optimizer.load_state_dict(state["optimizer"])
        teacher.batch, teacher.step, teacher.epoch, teacher.since_best = map(int, state["counters"])
        teacher.notes = [str(note) for note in state["notes"]]
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, OSError,
            UnpicklingError) as error:  # fmt: skip
        raise BadFileError(
            f"Training cannot go on from {path}: {error}. Remove it to start anew."
        ) from error
