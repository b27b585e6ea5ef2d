"""What a class is told by: the decoder's patterns, and the KAN's functions that weigh them.

The logit of a class at a pixel is exactly ``Σ_c w_c · map_c``: ``map_c`` are the decoder's feature
maps, here called patterns, and the weights ``w`` are what the KAN makes of the class's decoded
token. ``w_c`` is the sum of the learned functions on the edges of the KAN's last layer into node
``c``; what its earlier layers do comes in through the functions' inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadWeightsError
from napari_pathsam.models.class_model import ClassModel
from napari_pathsam.models.embedding import ImageEmbedding
from napari_pathsam.models.kan import Kan, KanLinear, learned_activations
from napari_pathsam.models.pathsam import PathSam

POINTS = 200
HONEST = (
    "The model tells “{name}” by {n} patterns that it finds in the image; training gave each a "
    "weight for or against. Where their sum is high, it says “{name}”. Below are the {shown} that "
    "do most: together {covered:.0f} % of all that is said for and against.\n"
    "“Where it acts” shows one: red speaks for “{name}”, blue against it. The curve is the "
    "strongest of the learned functions behind its weight, the dot where that stands here.\n"
    "You can see whether the model looks where you would. You cannot see why: patterns have no "
    "names, the other classes have sums of their own (the highest wins), and another training may "
    "weigh otherwise. It is no proof that the tissue is {name}."
)


@dataclass(frozen=True)
class Pattern:
    """One of the decoder's feature maps, weighed for the class.

    Attributes
    ----------
    number
        Which of the feature maps, and of the KAN's outputs.
    share
        Its part of all that is said for and against the class on this field: how far its ``map``
        varies over the field, by the sum of that over all patterns.
    map
        ``(h, w)`` float32 on the cells of the field: what it adds to the class's logit.
    source
        The node that its strongest function comes from.
    part
        What that function says of all that the functions of this pattern say.
    x, y
        ``(P,)``, the function over the grid; ``x`` is normalised where the layer does so.
    at, value
        Its input and output on this field.
    """

    number: int
    share: float
    map: NDArray[np.float32]
    source: int
    part: float
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    at: float
    value: float


@dataclass(frozen=True)
class Explanation:
    """A class, its strongest patterns of ``n``, and the text that belongs beside them."""

    class_name: str
    patterns: tuple[Pattern, ...]
    n: int

    @property
    def text(self) -> str:
        return HONEST.format(
            name=self.class_name,
            n=self.n,
            shown=len(self.patterns),
            covered=100 * sum(p.share for p in self.patterns),
        )


def explain(
    model: ClassModel, embedding: ImageEmbedding, class_id: int, *, n: int = 6
) -> Explanation:
    """The patterns that do most to a class's map of a field.

    Parameters
    ----------
    embedding
        Of the field, by this model's encoders; its finest magnification is looked at.
    class_id
        Of ``model.classes``; 0 is background.
    n
        How many at most.

    Raises
    ------
    BadWeightsError
        The model's head is no KAN, or does not know the class.
    """
    if not isinstance(model, PathSam):
        raise BadWeightsError(
            f"{model.name} has no KAN to explain: it is a network trained whole. Models with class "
            "prompts on a promptable model have one."
        )
    ids = [0, *(info.id for info in model.classes)]
    if class_id not in ids:
        raise BadWeightsError(
            "This version has no such class: it was trained without it. Choose another class, or "
            "paint it and train again."
        )
    channel = ids.index(class_id)
    name = "background" if channel == 0 else model.classes[class_id].name
    kan = model.head.to_weights[channel]
    if not isinstance(kan, Kan):
        raise BadWeightsError(
            f"{model.name} has no KAN to explain: its head is an MLP. Train one with a KAN."
        )
    token, maps = _decoded(model, embedding, channel)
    found = _patterns(kan, token, maps)
    found.sort(key=lambda pattern: -pattern.share)
    return Explanation(name, tuple(found[:n]), len(found))


def _decoded(model: PathSam, embedding: ImageEmbedding, channel: int) -> tuple[Tensor, Tensor]:
    """The class's decoded token ``(C,)`` and the feature maps ``(C/8, h, w)``."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.extend((given[1], given[2]))

    handle = model.head.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            model.class_logits(embedding)
    finally:
        handle.remove()
    tokens, maps = seen
    return tokens[0, channel].float(), maps[0].float()


@torch.no_grad()
def _patterns(kan: Kan, token: Tensor, maps: Tensor) -> list[Pattern]:
    """Every pattern, with the strongest of its functions."""
    *before, layer = (layer for layer in kan.layers if isinstance(layer, KanLinear))
    x = token
    for each in before:
        x = each(x)
    inputs = functional.layer_norm(x, (layer.n_in,)) if layer.config.normalise else x
    values = torch.einsum("jib,ib->ji", layer.coefficients, layer.basis(inputs))
    if layer.base is not None:
        values = values + layer.base.weight * functional.silu(inputs)
    added = values.sum(dim=1)[:, None, None] * maps  # (C/8, h, w), together the logits
    # What is everywhere the same moves the whole map; what differs draws it.
    share = added.flatten(1).std(dim=1)
    share = share / share.sum().clamp(min=1e-12)
    part = values.abs() / values.abs().sum(dim=1, keepdim=True).clamp(min=1e-12)
    grid, curves = learned_activations(layer, points=POINTS)
    return [
        Pattern(
            number=j,
            share=float(share[j]),
            map=added[j].cpu().numpy(),
            source=i,
            part=float(part[j, i]),
            x=grid.cpu().numpy(),
            y=curves[j, i].cpu().numpy(),
            at=float(inputs[i]),
            value=float(values[j, i]),
        )
        for j, i in enumerate(part.argmax(dim=1).tolist())
    ]
