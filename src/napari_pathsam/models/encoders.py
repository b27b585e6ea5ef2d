"""Pathology encoders: frozen networks from timm whose features land on SAM's grid.

One adaptor for all of them; what they differ in is an :class:`EncoderSpec`. An image is resized so
that one token covers one cell of SAM's stride-16 grid, cut into the windows the encoder was trained
on (or given whole), and its tokens are put back in place, prefix tokens left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.core.errors import BadWeightsError, UnavailableError
from napari_pathsam.models.encoder_list import ENCODERS
from napari_pathsam.models.encoder_spec import GUIDE, EncoderSpec, Layout, VitArgs

__all__ = [
    "ENCODERS",
    "EncoderSpec",
    "Layout",
    "PathologyEncoder",
    "VitArgs",
    "find_encoder",
    "load_encoder",
    "random_encoder",
]

WINDOWS_AT_ONCE = 16  # as many as a field of 1024 px has: bounds the memory of larger ones


class PathologyEncoder(nn.Module):
    """``(B, 3, H, W)`` pixels in 0…1, R, G, B → ``(B, embed_dim, gh, gw)``; always in eval mode.

    Raises
    ------
    BadWeightsError
        timm builds something else from the specification than it says.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: EncoderSpec, net: Any = None) -> None:
        super().__init__()
        self.spec = spec
        self.net = build_network(spec) if net is None else net
        self.weights_sha256: str | None = None  # of the published file, once that is loaded
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @property
    def name(self) -> str:
        return self.spec.name

    def train(self, mode: bool = True) -> PathologyEncoder:
        """Frozen: dropout and batch statistics stay off whatever is trained around it."""
        return super().train(False)

    def forward(self, pixels: Tensor, grid_yx: tuple[int, int]) -> Tensor:
        """Features of an image on a grid of ``grid_yx`` cells that covers it."""
        px, window = self.spec.token_px, self.spec.window_px
        size = (grid_yx[0] * px, grid_yx[1] * px)
        if tuple(pixels.shape[-2:]) != size:
            pixels = functional.interpolate(
                pixels, size, mode="bilinear", align_corners=False, antialias=True
            )
        pixels = (pixels - self.mean) / self.std  # (B, 3, gh * px, gw * px)
        if window is None:
            return self._tokens(pixels)
        rows, columns = (_starts(n, window // px) for n in grid_yx)
        height, width = (min(n, window // px) for n in grid_yx)
        corners = [(y, x) for y in rows for x in columns]
        cut = [
            pixels[..., y * px : (y + height) * px, x * px : (x + width) * px] for y, x in corners
        ]
        batches = torch.split(torch.cat(cut), WINDOWS_AT_ONCE)
        found = [self._tokens(batch) for batch in batches]  # (≤ 16, D, height, width)
        pieces = torch.cat(found).chunk(len(corners))
        grid = pieces[0].new_empty(pixels.shape[0], self.spec.embed_dim, *grid_yx)
        for (y, x), piece in zip(corners, pieces, strict=True):
            grid[..., y : y + height, x : x + width] = piece
        return grid

    def _tokens(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, whole tokens → ``(B, D, h, w)``."""
        found: Tensor = self.net.forward_features(pixels)
        height, width = (n // self.spec.token_px for n in pixels.shape[-2:])
        if found.ndim == 3:  # (B, prefix + h * w, D)
            tokens = found[:, self.spec.prefix_tokens :]
            return tokens.transpose(1, 2).reshape(len(pixels), -1, height, width)
        return found.permute(0, 3, 1, 2) if found.shape[1:3] == (height, width) else found


def _starts(cells: int, window: int) -> list[int]:
    """First cells of windows that cover so many cells; the last one ends with them."""
    return [*range(0, cells - window, window), max(0, cells - window)]


def build_network(spec: EncoderSpec) -> Any:
    """A network of timm's, with random weights, as the specification says."""
    import timm

    layers: Any = timm.layers
    given = {} if spec.vit is None else spec.vit.model_dump(exclude_none=True)
    mlp, act = given.pop("mlp", None), given.pop("act", None)
    if mlp is not None:
        given["mlp_layer"] = {"mlp": layers.Mlp, "swiglu": layers.SwiGLUPacked}[mlp]
    if act is not None:
        given["act_layer"] = {"gelu": nn.GELU, "silu": nn.SiLU}[act]
    if spec.vit is not None:
        given["dynamic_img_size"] = True
    try:
        net: Any = timm.create_model(
            spec.timm, pretrained=False, num_classes=0, global_pool="", **given
        )
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise _refused(spec, f"timm cannot build {spec.timm!r} like that ({error})") from error
    prefix = getattr(net, "num_prefix_tokens", 0)
    if (net.num_features, prefix) != (spec.embed_dim, spec.prefix_tokens):
        raise _refused(
            spec,
            f"{spec.timm!r} has features of width {net.num_features} and {prefix} prefix tokens, "
            f"not {spec.embed_dim} and {spec.prefix_tokens}",
        )
    return net


def _refused(spec: EncoderSpec, why: str) -> BadWeightsError:
    return BadWeightsError(
        f"The encoder {spec.name} cannot be used: {why}. Nothing was loaded. Correct its "
        "specification, or take one of `pathsam models list`."
    )


def find_encoder(name: str) -> EncoderSpec:
    """The encoder of this name, of the catalogue or imported; UnavailableError lists them all."""
    from napari_pathsam.models.encoder_files import imported_encoders

    if name in ENCODERS:
        return ENCODERS[name]
    imported = imported_encoders()
    if name not in imported:
        there = ", ".join(dict.fromkeys((*ENCODERS, *imported)))
        raise UnavailableError(
            f"No pathology encoder is called {name!r}. There are: {there}. `pathsam models import "
            f"FILE --spec SPEC.json` adds any other one that timm can build: {GUIDE}"
        )
    return imported[name]


def load_encoder(name_or_spec: str | EncoderSpec, device: str = "auto") -> PathologyEncoder:
    """An encoder ready to use: frozen, in eval mode, in float32, on ``device``.

    Raises
    ------
    BadWeightsError
        A tensor of the network is missing from the file, or one in the file does not belong.
    UnavailableError
        There is no such encoder, or its weights are not here: nothing is downloaded.
    """
    from napari_pathsam.models.catalogue import pick_device
    from napari_pathsam.models.encoder_files import open_encoder

    spec = find_encoder(name_or_spec) if isinstance(name_or_spec, str) else name_or_spec
    return open_encoder(spec).to(pick_device(device))


def random_encoder(
    spec: EncoderSpec, *, depth: int | None = None, seed: int = 0
) -> PathologyEncoder:
    """An encoder of this layout with random weights, for tests; fewer blocks on request."""
    if depth is not None and spec.vit is not None:
        spec = spec.model_copy(update={"vit": spec.vit.model_copy(update={"depth": depth})})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PathologyEncoder(spec)
