"""What a training says of itself, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_pathsam.training.finetune_run import Frozen

NO_ROOM = (
    "There is not enough memory to encode or decode a tile. Close other programs, use the CPU, or "
    "take a smaller model; what was trained until now is kept."
)
GENTLY = (
    "What training starts from knows these classes: it scores {dice:.2f} on {what}. So "
    "that it keeps what it knows, the new model is {learned:.0f} % what was learned, and the rest "
    "what it was."
)
ANEW = (
    "What training starts from scores only {dice:.2f} on {what}, so all that "
    "was learned is taken. Where it was right, on other images, that may be lost: look at some of "
    "those, and paint there, too."
)
START_KEPT = (
    "Training made nothing better on what was held out, so this version is what it started from. "
    "Paint where it is wrong, in more places, and train again."
)


def painted_since(frozen: Frozen) -> str:
    """What says how right the start is."""
    if frozen.corrects:
        return "what you painted since"
    known = any(one.seen is not None for one in frozen.labels)
    return "what is held out" if known else "what you painted"


def no_number(step: int, epoch: int) -> str:
    """Why training stopped at a step, and what of which epoch is kept."""
    kept = f"The model of epoch {epoch}" if epoch else "What training started from"
    return (
        f"Training was stopped at step {step}: the loss is no number any more, as happens when the "
        f"learning rate is too high. {kept} was kept. Lower the learning rate and train again."
    )
