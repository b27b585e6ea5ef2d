"""What a class's KAN has learned: its activation functions by contribution, and where they act.

The logit of a class at a pixel is ``Σ_c w_c · map_c``: ``map_c`` are the decoder's feature maps,
and the weights ``w`` are what the KAN makes of the class's decoded token, a sum of learned
functions of one variable on every edge. To first order an edge with the value ``v`` into node
``j`` adds ``v · Σ_c ∂w_c/∂j · map_c``; for the last layer that is exact.
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
    "The curves are what training made of the edges of “{name}”'s KAN, those first that change the "
    "map of this field most; the dot is where the edge stands here. The pictures show where an "
    "edge speaks for (above 0) or against (below 0) the class. What this can tell: which few "
    "functions carry the decision on this field, and whether they act where you would expect. "
    "What it cannot: the KAN sees the class's token, not pixels or cells, its inputs have no "
    "names, edges of an earlier layer are followed to first order only, and another training may "
    "divide the same decision among other edges. It is no proof of why the tissue is {name}."
)


@dataclass(frozen=True)
class Activation:
    """One edge of the KAN.

    Attributes
    ----------
    layer, source, target
        Which: layer from 0, node it comes from, node it goes to.
    x, y
        ``(P,)``, the learned function over the grid; ``x`` is normalised where the layer does so.
    at, value
        Its input and output on this field.
    share
        Its part of what all edges of its layer do to the map.
    map
        ``(h, w)`` float32 on the cells of the field: what it adds to the class's logit.
    """

    layer: int
    source: int
    target: int
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    at: float
    value: float
    share: float
    map: NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """A class, its strongest activations, and the text that belongs beside them."""

    class_name: str
    activations: tuple[Activation, ...]
    text: str


def explain(
    model: ClassModel, embedding: ImageEmbedding, class_id: int, *, n: int = 6
) -> Explanation:
    """The activation functions that do most to a class's map of a field.

    Parameters
    ----------
    embedding
        Of the field, by this model's encoders; its finest magnification is looked at.
    class_id
        Of ``model.classes``; 0 is background.
    n
        How many, of all layers together.

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
    edges = [
        edge for layer in range(len(kan.layers)) for edge in _edges(kan, layer, token, maps, n)
    ]
    edges.sort(key=lambda edge: -edge.share)
    return Explanation(name, tuple(edges[:n]), HONEST.format(name=name))


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


def _edges(kan: Kan, number: int, token: Tensor, maps: Tensor, n: int) -> list[Activation]:
    """The strongest edges of a layer."""
    layers = [layer for layer in kan.layers if isinstance(layer, KanLinear)]
    layer = layers[number]
    with torch.no_grad():
        x = token
        for before in layers[:number]:
            x = before(x)
        nodes = layer(x)
        inputs = functional.layer_norm(x, (layer.n_in,)) if layer.config.normalise else x
        values = torch.einsum("jib,ib->ji", layer.coefficients, layer.basis(inputs))
        if layer.base is not None:
            values = values + layer.base.weight * functional.silu(inputs)

    def rest(given: Tensor) -> Tensor:
        for after in layers[number + 1 :]:
            given = after(given)
        return given

    with torch.enable_grad():
        slope: Tensor = torch.func.jacrev(rest)(nodes)  # (C/8, n_out)
    with torch.no_grad():
        effect = torch.einsum("cj,chw->jhw", slope, maps)  # of each node on the map
        # What is everywhere the same moves the whole map; what differs draws it.
        strength = values.abs() * effect.flatten(1).std(dim=1)[:, None]
        share = strength / strength.sum().clamp(min=1e-12)
        grid, curves = learned_activations(layer, points=POINTS)
    found = []
    for flat in share.flatten().argsort(descending=True)[:n].tolist():
        j, i = divmod(flat, layer.n_in)
        found.append(
            Activation(
                layer=number,
                source=i,
                target=j,
                x=grid.cpu().numpy(),
                y=curves[j, i].cpu().numpy(),
                at=float(inputs[i]),
                value=float(values[j, i]),
                share=float(share[j, i]),
                map=(values[j, i] * effect[j]).cpu().numpy(),
            )
        )
    return found
