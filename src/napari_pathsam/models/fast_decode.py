"""SAM 2's mask decoder at inference: upstream's weights and numbers, a fraction of its work.

The same algebra in another order; results agree to rounding. What does not depend on the prompt
(position codes, first projections of the image, skip connections) is computed once an embedding.
Where a few tokens meet thousands of image cells, the projections go to the tokens: with
``q·(W k) = (Wᵀ q)·k`` no cell is projected, and because attention weights add up to 1 the same
holds for values and biases. Upscaling runs cell by cell, so that a transposed convolution is one
matrix product, a layer norm is over the last axis, and a band of cells stays in the CPU's cache.

Sizes in comments: ``B`` objects, ``T`` tokens each, ``N = h·w`` image cells, ``C`` channels,
``H`` heads of ``d`` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BAND = 512  # image cells upscaled at a time
TOGETHER = 2  # objects decoded at a time: their image-sized tensors should stay in the cache

Window = tuple[slice, slice]  # rows and columns of image cells


@dataclass(frozen=True)
class Prepared:
    """What all prompts on one embedding share."""

    grid_yx: tuple[int, int]
    image: Tensor  # (N, C), without the dense prompt
    positions: Tensor  # (N, C)
    unmasked: Tensor  # (N, C), image with the dense prompt of no mask
    to_key: Tensor  # (H, d, N), first-layer keys of `unmasked`
    to_value: Tensor  # (H, N, d)
    to_query: Tensor  # (H, d, N), first-layer queries of the image cells
    skip_8: Tensor  # (N, 4·C/4): four finer cells of each cell, bias of the upscaling added
    skip_4: Tensor  # (N, 16·C/8)

    @property
    def nbytes(self) -> int:
        return sum(
            t.numel() * t.element_size() for t in vars(self).values() if isinstance(t, Tensor)
        )


@dataclass(frozen=True)
class Drawn:
    """Two convolutions of a picture, as matrices that are applied to each image cell's part of it.

    A cell's outputs depend on the 6 × 6 picture cells in and round it, and on a bias: 37 numbers.
    """

    parts: Tensor  # (B, N, 37)
    to_8: Tensor  # (37, 4·C/4)
    to_4: Tensor  # (37, 16·C/8)

    @classmethod
    def of(cls, picture: Tensor, fine: nn.Conv2d, coarse: nn.Conv2d) -> Drawn:
        """Of ``(B, 1, 4h, 4w)``; ``fine`` is 3 × 3, ``coarse`` 4 × 4 in steps of 2, both padded."""
        one = functional.pad(torch.eye(36, device=picture.device), (0, 0, 0, 1)).view(37, 1, 6, 6)
        to_4 = functional.conv2d(one, fine.weight).view(37, -1, 2, 2, 2, 2)
        to_4 = to_4.permute(0, 2, 4, 3, 5, 1).reshape(37, -1)
        to_8 = functional.conv2d(one, coarse.weight, stride=2).permute(0, 2, 3, 1).reshape(37, -1)
        assert fine.bias is not None
        assert coarse.bias is not None
        to_4[36], to_8[36] = fine.bias.repeat(16), coarse.bias.repeat(4)
        parts = functional.unfold(picture, 6, padding=1, stride=4)
        parts = functional.pad(parts, (0, 0, 0, 1), value=1.0)
        return cls(parts.transpose(1, 2).contiguous(), to_8, to_4)


def prepare(
    decoder: Any,
    image_embed: Tensor,
    high_res: Sequence[Tensor],
    positions: Tensor,
    no_mask: Tensor,
) -> Prepared:
    """Do once what does not depend on the prompt.

    Parameters
    ----------
    decoder
        Upstream's MaskDecoder.
    image_embed, high_res
        ``(1, C, h, w)``; ``(1, C/8, 4h, 4w)`` and ``(1, C/4, 2h, 2w)``, or nothing for a decoder
        without them (SAM 1).
    positions
        ``(1, C, h, w)``.
    no_mask
        ``(1, C)``, the dense prompt where no mask is given.
    """
    first = decoder.transformer.layers[0]
    to_image, from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    image = image_embed[0].flatten(1).t().contiguous()
    where = positions[0].flatten(1).t().contiguous()
    unmasked = image + no_mask
    heads = to_image.num_heads

    def per_head(linear: nn.Linear, cells: Tensor) -> Tensor:
        projected = functional.linear(cells, linear.weight, linear.bias)
        return projected.view(len(cells), heads, -1).transpose(0, 1)  # (H, N, d)

    up_8, _, _, up_4, _ = decoder.output_upscaling
    bias_8, bias_4, n = up_8.bias.repeat(4), up_4.bias.repeat(16), len(image)
    return Prepared(
        grid_yx=(image_embed.shape[-2], image_embed.shape[-1]),
        image=image,
        positions=where,
        unmasked=unmasked,
        to_key=per_head(to_image.k_proj, unmasked + where).transpose(1, 2).contiguous(),
        to_value=per_head(to_image.v_proj, unmasked).contiguous(),
        to_query=per_head(from_image.q_proj, unmasked + where).transpose(1, 2).contiguous(),
        skip_8=_by_cell(high_res[1][0], 1) + bias_8 if high_res else bias_8.expand(n, -1).clone(),
        skip_4=_by_cell(high_res[0][0], 2) + bias_4 if high_res else bias_4.expand(n, -1).clone(),
    )


def _by_cell(feature: Tensor, halvings: int) -> Tensor:
    """``(c, 2ᵏh, 2ᵏw)`` → ``(h·w, 4ᵏ·c)``: what lies in a cell, coarse quarter first."""
    c, height, width = feature.shape
    h, w = height >> halvings, width >> halvings
    split = feature.reshape(c, h, *[2] * halvings, w, *[2] * halvings)
    k = halvings
    quarters = [axis for i in range(k) for axis in (2 + i, 3 + k + i)]
    return split.permute(1, 2 + k, *quarters, 0).reshape(h * w, -1)


def _to_image(cells: Tensor, grid_yx: tuple[int, int]) -> Tensor:
    """``(h·w, 16, m)`` in the order of :func:`_by_cell` → ``(m, 4h, 4w)``."""
    m, (h, w) = cells.shape[-1], grid_yx
    split = cells.view(h, w, 2, 2, 2, 2, m)  # y, x, y/2, x/2, y/4, x/4
    return split.permute(6, 0, 2, 4, 1, 3, 5).reshape(m, 4 * h, 4 * w)


def predict_masks(
    decoder: Any,
    prepared: Prepared,
    sparse: Tensor,
    dense: Tensor | None,
    windows: Sequence[Window | None] | None = None,
    drawn: Drawn | None = None,
) -> tuple[list[Tensor], Tensor]:
    """All four masks of several objects on one image: what upstream's ``predict_masks`` gives.

    Parameters
    ----------
    decoder
        Upstream's MaskDecoder, in eval mode.
    prepared
        From :func:`prepare`.
    sparse
        ``(B, n, C)``, encoded points and boxes.
    dense
        ``(B, C, h, w)``, encoded masks, or None.
    windows
        Where each object's masks are wanted, in image cells.
        None: everywhere.
    drawn
        What the objects' drawn prompts add to the two high-resolution levels, or None.

    Returns
    -------
    logits, predicted IoU
        ``(4, 4h, 4w)`` for each object, or its window of that; ``(B, 4)``.
    """
    logits, ious = [], []
    together = TOGETHER if sparse.device.type == "cpu" else len(sparse)
    for start in range(0, len(sparse), together):
        some = slice(start, start + together)
        tokens, iou, image = _attend(
            decoder, prepared, sparse[some], None if dense is None else dense[some]
        )
        ious.append(iou)
        for i, weights in enumerate(tokens):
            window = windows[start + i] if windows else None
            cells = _Cells(image[i], prepared.skip_8, prepared.skip_4, drawn, start + i)
            logits.append(_upscale(decoder, cells, weights, prepared.grid_yx, window))
    return logits, torch.cat(ious)


def _attend(
    decoder: Any, prepared: Prepared, sparse: Tensor, dense: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask weights ``(B, C/8, 4)``, predicted IoU ``(B, 4)`` and image cells ``(B, N, C)``."""
    own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if decoder.pred_obj_scores:  # takes part in the attention; the score itself is not needed
        own.append(decoder.obj_score_token.weight)
    tokens = torch.cat([torch.cat(own).expand(len(sparse), -1, -1), sparse], dim=1)
    n_masks = decoder.num_mask_tokens
    tokens_out, image = transform(decoder.transformer, prepared, tokens, dense, 1 + n_masks)
    weights = [mlp(tokens_out[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)]
    return torch.stack(weights, dim=2), decoder.iou_prediction_head(tokens_out[:, 0]), image


# --- the two-way transformer ---------------------------------------------------------------------


def transform(
    transformer: Any, prepared: Prepared, tokens: Tensor, dense: Tensor | None, n_out: int
) -> tuple[Tensor, Tensor]:
    """Tokens ``(B, T, C)`` and image cells ``(B, N, C)`` after both have looked at each other.

    Only the first ``n_out`` tokens come back: the last attention skips those nobody reads.
    """
    if dense is None:
        image: Tensor | None = None
    else:
        image = prepared.image + dense.flatten(2).transpose(1, 2)
    placed: Tensor | None = None if image is None else image + prepared.positions
    queries = tokens
    for layer in transformer.layers:
        queries = _self_attention(layer, queries, tokens)
        asked = queries + tokens
        if image is None or placed is None:  # the first layer, no mask: all images are alike
            found = _look_at_shared(layer.cross_attn_token_to_image, prepared, asked)
        else:
            found = _look(layer.cross_attn_token_to_image, asked, placed, image)
        queries = layer.norm2(queries + found)
        queries = layer.norm3(queries + layer.mlp(queries))
        image = layer.norm4(
            _look_back(layer.cross_attn_image_to_token, prepared, queries, tokens, image, placed)
        )
        placed = image + prepared.positions
    assert image is not None
    assert placed is not None
    queries = queries[:, :n_out]
    asked = queries + tokens[:, :n_out]
    found = _look(transformer.final_attn_token_to_image, asked, placed, image)
    return transformer.norm_final_attn(queries + found), image


def _self_attention(layer: Any, queries: Tensor, tokens: Tensor) -> Tensor:
    if layer.skip_first_layer_pe:
        attended = layer.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + tokens
        attended = queries + layer.self_attn(q=placed, k=placed, v=queries)
    normed: Tensor = layer.norm1(attended)
    return normed


def _heads(attention: Any, projected: Tensor) -> Tensor:
    """``(B, T, H·d)`` → ``(H, B·T, d)``."""
    b, t, _ = projected.shape
    return projected.view(b * t, attention.num_heads, -1).transpose(0, 1)


def _joined(attention: Any, found: Tensor, batch: int) -> Tensor:
    """``(H, B·T, d)`` → ``(B, T, C)``, through the output projection."""
    joined: Tensor = attention.out_proj(
        found.transpose(0, 1).reshape(batch, -1, attention.internal_dim)
    )
    return joined


def _scale(attention: Any) -> float:
    return float((attention.internal_dim // attention.num_heads) ** -0.5)


def _split(attention: Any, linear: nn.Linear) -> Tensor:
    """An input projection's weight by head: ``(H, d, C)``."""
    return linear.weight.view(attention.num_heads, -1, linear.weight.shape[1])


def _look_at_shared(attention: Any, prepared: Prepared, asked: Tensor) -> Tensor:
    """Tokens attend to an image that is the same for all objects."""
    q = _heads(attention, attention.q_proj(asked)) * _scale(attention)
    weights = torch.bmm(q, prepared.to_key).softmax(-1)  # (H, B·T, N)
    return _joined(attention, torch.bmm(weights, prepared.to_value), len(asked))


def _look(attention: Any, asked: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """Tokens attend to each object's own image; the projections go to the tokens."""
    b, t, c = asked.shape
    q = _heads(attention, attention.q_proj(asked)) * _scale(attention)
    # The key's bias adds the same to all of a token's scores and drops out of the softmax.
    folded = torch.bmm(q, _split(attention, attention.k_proj)).view(-1, b, t, c)
    folded = folded.transpose(0, 1).reshape(b, -1, c)  # (B, H·T, C)
    weights = torch.bmm(folded, placed.transpose(1, 2)).softmax(-1)  # (B, H·T, N)
    seen = torch.bmm(weights, image).view(b, -1, t, c)
    seen = seen.transpose(0, 1).reshape(-1, b * t, c)  # (H, B·T, C)
    values = torch.bmm(seen, _split(attention, attention.v_proj).transpose(1, 2))
    bias = attention.v_proj.bias.view(attention.num_heads, 1, -1)
    return _joined(attention, values + bias, b)


def _look_back(
    attention: Any,
    prepared: Prepared,
    queries: Tensor,
    tokens: Tensor,
    image: Tensor | None,
    placed: Tensor | None,
) -> Tensor:
    """Image cells attend to the tokens; what they see is added to them: ``(B, N, C)``."""
    b, t, c = queries.shape
    heads = attention.num_heads
    keys = _heads(attention, attention.k_proj(queries + tokens)) * _scale(attention)
    if placed is None:
        scores = torch.bmm(keys, prepared.to_query).view(heads, b, t, -1).transpose(0, 1)
    else:
        folded = torch.bmm(keys, _split(attention, attention.q_proj)).view(heads, b, t, c)
        folded = folded.transpose(0, 1).reshape(b, -1, c)
        bias = torch.bmm(keys, attention.q_proj.bias.view(heads, -1, 1)).view(heads, b, t, 1)
        scores = torch.bmm(folded, placed.transpose(1, 2)).view(b, heads, t, -1)
        scores = scores + bias.transpose(0, 1)
    weights = scores.softmax(2).reshape(b, heads * t, -1)  # over the tokens of each head

    values = _heads(attention, attention.v_proj(queries))
    out = attention.out_proj.weight.t().view(heads, -1, c)
    # Each head's weights add up to 1, so the heads share the output's bias.
    seen = torch.bmm(values, out) + attention.out_proj.bias / heads
    seen = seen.view(heads, b, t, c).transpose(0, 1).reshape(b, -1, c)
    if image is None:
        return torch.baddbmm(prepared.unmasked.expand(b, -1, -1), weights.transpose(1, 2), seen)
    return image.baddbmm_(weights.transpose(1, 2), seen)  # nobody else holds it


# --- upscaling -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cells:
    """What one object's logits are upscaled from, cell by cell: ``(N, …)`` each."""

    image: Tensor
    skip_8: Tensor
    skip_4: Tensor
    drawn: Drawn | None
    of: int  # which object of `drawn`

    def fields(self) -> list[Tensor]:
        tensors = [self.image, self.skip_8, self.skip_4]
        return tensors if self.drawn is None else [*tensors, self.drawn.parts[self.of]]


def _upscale(
    decoder: Any,
    cells: _Cells,
    weights: Tensor,
    grid_yx: tuple[int, int],
    window: Window | None,
) -> Tensor:
    """Cells and mask weights ``(C/8, m)`` → logits of all or a window."""
    tensors = cells.fields()
    if window is not None:
        y, x = window
        tensors = [t.view(*grid_yx, -1)[y, x].flatten(0, 1) for t in tensors]
        grid_yx = (y.stop - y.start, x.stop - x.start)
    return _to_image(_upscale_cells(decoder, tensors, cells.drawn, weights), grid_yx)


def _upscale_cells(
    decoder: Any, cells: list[Tensor], drawn: Drawn | None, weights: Tensor
) -> Tensor:
    """Any cells ``(n, …)`` → logits ``(n, 16, m)``."""
    up_8, norm, _, up_4, _ = decoder.output_upscaling
    n, c = cells[0].shape
    to_8 = up_8.weight.permute(0, 2, 3, 1).reshape(c, -1)
    to_4 = up_4.weight.permute(0, 2, 3, 1).reshape(up_4.weight.shape[0], -1)
    c8, c4 = up_4.weight.shape[:2]
    logits = weights.new_empty(n, 16, weights.shape[1])
    size = BAND if weights.device.type == "cpu" else n
    for start in range(0, n, size):
        image, skip_8, skip_4, *part = (t[start : start + size] for t in cells)
        if drawn is not None:
            skip_8 = torch.addmm(skip_8, part[0], drawn.to_8)
            skip_4 = torch.addmm(skip_4, part[0], drawn.to_4)
        fine = torch.addmm(skip_8, image, to_8).view(-1, c8)
        fine = functional.layer_norm(fine, (c8,), norm.weight, norm.bias, norm.eps)
        fine = torch.addmm(skip_4.view(len(fine), -1), functional.gelu(fine), to_4)
        finer = functional.gelu(fine).view(-1, c4)
        logits[start : start + size] = torch.mm(finer, weights).view(-1, 16, weights.shape[1])
    return logits
