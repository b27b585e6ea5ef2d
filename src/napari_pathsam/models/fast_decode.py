"""SAM 2's mask decoder at inference: upstream's weights and numbers, a fraction of its work.

The same algebra in another order; results agree to rounding. What does not depend on the prompt
(position codes, first projections of the image, skip connections, what an empty mask prompt says)
is computed once an embedding. Where a few tokens meet thousands of image cells, the projections go
to the tokens: with ``q·(W k) = (Wᵀ q)·k`` no cell is projected, and because attention weights add
up to 1 the same holds for values and biases. The tokens of several images (one picture at several
magnifications) go through the decoder together.

Sizes in comments: ``B`` objects, ``T`` tokens each, ``N = h·w`` image cells, ``C`` channels,
``H`` heads of ``d`` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_pathsam.models.fast_upscale import Skips, Window, upscale
from napari_pathsam.models.pictures import FAINT, Drawn, PictureWeights, parts_of
from napari_pathsam.models.prompt_map import PromptSkip

TOGETHER = 2  # objects decoded at a time: their image-sized tensors should stay in the cache
SPARSE = 0.25
"""Where less than this share of an image is drawn on, the rest is not worked out again."""


@dataclass(frozen=True)
class Prepared:
    """What all prompts on one embedding share.

    ``bare`` is what all images are before anything is asked: with the dense prompt of no mask or,
    for a model that draws its prompts, of an empty picture.
    """

    image: Tensor  # (N, C), without any dense prompt
    positions: Tensor  # (N, C)
    bare: Tensor  # (N, C)
    to_key: Tensor  # (H, d, N), first-layer keys of `bare`
    to_value: Tensor  # (H, d, N)
    to_query: Tensor  # (H, d, N), first-layer queries of the image cells
    skips: Skips
    picture: PictureWeights
    empty: Tensor  # (16,), what `picture` makes of a cell with nothing in it

    @property
    def nbytes(self) -> int:
        kept = [self.image, self.positions, self.bare, self.to_key, self.to_value, self.to_query]
        kept += [self.skips.at_8, self.skips.at_4]
        return sum(t.numel() * t.element_size() for t in kept)


@dataclass(frozen=True)
class Asked:
    """What is asked of one image.

    Attributes
    ----------
    prepared
        From :func:`prepare`.
    sparse
        ``(B, n, C)``, encoded points and boxes.
    picture
        ``(B, 1, 4h, 4w)`` logits of the mask prompt, or None.
    windows
        Where each object's masks are wanted, in image cells. None: everywhere.
    """

    prepared: Prepared
    sparse: Tensor
    picture: Tensor | None
    windows: Sequence[Window | None] | None = None

    def of(self, some: slice) -> Asked:
        """The same of some of the objects."""
        picture = None if self.picture is None else self.picture[some]
        windows = None if self.windows is None else self.windows[some]
        return Asked(self.prepared, self.sparse[some], picture, windows)


def weights_read(decoder: Any, encoder: Any, skip: PromptSkip | None) -> list[Tensor]:
    """The weights that :func:`prepare` reads: what it made is valid as long as they are."""
    first, up, down = (
        decoder.transformer.layers[0],
        decoder.output_upscaling,
        encoder.mask_downscaling,
    )
    to_image, from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    modules = [to_image.k_proj, to_image.v_proj, from_image.q_proj, up[0], up[3]]
    modules += [down[i] for i in (0, 1, 3, 4, 6)]
    if skip is not None:
        modules += [skip.fine, skip.coarse]
    own = [w for module in modules for w in (module.weight, module.bias)]
    return [
        *own,
        encoder.no_mask_embed.weight,
        encoder.pe_layer.positional_encoding_gaussian_matrix,
    ]


def prepare(
    decoder: Any,
    encoder: Any,
    image_embed: Tensor,
    high_res: Sequence[Tensor],
    positions: Tensor,
    skip: PromptSkip | None = None,
) -> Prepared:
    """Do once what does not depend on the prompt.

    Parameters
    ----------
    decoder, encoder
        Upstream's MaskDecoder and PromptEncoder.
    image_embed, high_res
        ``(1, C, h, w)``; ``(1, C/8, 4h, 4w)`` and ``(1, C/4, 2h, 2w)``, or nothing for a decoder
        without them (SAM 1).
    positions
        ``(1, C, h, w)``.
    skip
        The PromptSkip of a model that draws its prompts.
    """
    first = decoder.transformer.layers[0]
    to_image, from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    image = image_embed[0].flatten(1).t().contiguous()
    where = positions[0].flatten(1).t().contiguous()
    picture = PictureWeights.of(encoder.mask_downscaling, skip)
    empty, bare = picture.empty(), image + encoder.no_mask_embed.weight
    if skip is not None:
        bare = image + (empty @ picture.last + picture.last_bias)

    def per_head(linear: nn.Linear, cells: Tensor) -> Tensor:
        projected = functional.linear(cells, linear.weight, linear.bias)
        return projected.t().reshape(to_image.num_heads, -1, len(cells))

    grid_yx = (image_embed.shape[-2], image_embed.shape[-1])
    return Prepared(
        image=image,
        positions=where,
        bare=bare,
        to_key=per_head(to_image.k_proj, bare + where),
        to_value=per_head(to_image.v_proj, bare),
        to_query=per_head(from_image.q_proj, bare + where),
        skips=Skips.of(decoder, grid_yx, tuple(high_res), skip),
        picture=picture,
        empty=empty,
    )


def predict_masks(decoder: Any, asked: Sequence[Asked]) -> list[tuple[list[Tensor], Tensor]]:
    """All four masks of several objects on one or more images: upstream's ``predict_masks``.

    Parameters
    ----------
    decoder
        Upstream's MaskDecoder, in eval mode.
    asked
        For each image; equally many objects with equally many tokens.

    Returns
    -------
    (logits, predicted IoU) for each image
        ``(4, 4h, 4w)`` for each object, or its window of that; ``(B, 4)``.
    """
    n = len(asked[0].sparse)
    together = n if asked[0].sparse.device.type != "cpu" else TOGETHER
    found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in asked]
    for start in range(0, n, together):
        some = [one.of(slice(start, start + together)) for one in asked]
        for one, answer, (logits, ious) in zip(some, attend(decoder, some), found, strict=True):
            ious.append(answer.iou)
            windows = one.windows or [None] * len(one.sparse)
            logits += [
                upscale(
                    decoder, image, one.prepared.skips, weights, window, one.prepared.picture, drawn
                )
                for image, weights, window, drawn in zip(
                    answer.image, answer.weights, windows, answer.drawn, strict=True
                )
            ]
    return [(logits, torch.cat(ious)) for logits, ious in found]


@dataclass(frozen=True)
class Attended:
    """One image's objects after tokens and image have looked at each other."""

    weights: Tensor  # (B, C/8, 4), of the masks
    iou: Tensor  # (B, 4)
    image: Tensor  # (B, N, C)
    drawn: Sequence[Drawn | None]


def attend(decoder: Any, asked: Sequence[Asked]) -> list[Attended]:
    """Everything but the upscaling."""
    own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if decoder.pred_obj_scores:  # takes part in the attention; the score itself is not needed
        own.append(decoder.obj_score_token.weight)
    sparse = torch.cat([one.sparse for one in asked])
    tokens = torch.cat([torch.cat(own).expand(len(sparse), -1, -1), sparse], dim=1)
    fields = [_Field(one, decoder.transformer) for one in asked]
    out = transform(decoder.transformer, fields, tokens, 1 + decoder.num_mask_tokens)
    mlps = decoder.output_hypernetworks_mlps
    weights = torch.stack([mlp(out[:, 1 + i]) for i, mlp in enumerate(mlps)], dim=2)
    iou = decoder.iou_prediction_head(out[:, 0])
    n = len(asked[0].sparse)
    parts = [slice(i * n, (i + 1) * n) for i in range(len(asked))]
    return [
        Attended(weights[part], iou[part], field.seen, field.drawn)
        for field, part in zip(fields, parts, strict=True)
    ]


# --- the two-way transformer ---------------------------------------------------------------------


class _Field:
    """One image on its way through the transformer, once for each of ``B`` objects.

    As long as ``image`` is None it is ``shared.bare`` for all of them, with its first projections.
    """

    def __init__(self, asked: Asked, transformer: Any) -> None:
        self.shared = asked.prepared
        self.n = len(asked.sparse)
        self.image: Tensor | None = None  # (B, N, C)
        self.placed: Tensor | None = None  # with the positions
        self.drawn: list[Drawn | None] = [None] * self.n
        if asked.picture is not None:
            self._take(asked.picture, transformer.layers[0])

    @property
    def seen(self) -> Tensor:
        """The image after all layers."""
        assert self.image is not None
        return self.image

    def move(self, image: Tensor) -> None:
        """The image after a layer."""
        self.image, self.placed = image, image + self.shared.positions

    def _take(self, picture: Tensor, first: Any) -> None:
        """Add what mask prompts say."""
        shared, by_cell = self.shared, self.shared.picture
        parts = parts_of(picture)  # (B, 36, N)
        draws = by_cell.to_8 is not None
        if draws and self.n == 1:
            touched = (parts[0].abs() > FAINT).any(dim=0)
            rows = touched.nonzero()[:, 0]
            if len(rows) < SPARSE * len(touched):
                some = parts[0][:, rows].t().contiguous()
                more = (by_cell.features(some) - shared.empty) @ by_cell.last
                self.shared = _changed(shared, first, rows, more)
                self.drawn = [Drawn(some, rows, len(touched))]
                return
        parts = parts.transpose(1, 2).contiguous()
        features = by_cell.features(parts).chunk(self.n)
        base = shared.image + by_cell.last_bias
        self.move(torch.stack([torch.addmm(base, f, by_cell.last) for f in features]))
        if draws:
            self.drawn = [Drawn(one) for one in parts]


def _changed(shared: Prepared, first: Any, rows: Tensor, more: Tensor) -> Prepared:
    """The same with ``(n, C)`` added to some cells of the bare image."""
    bare = shared.bare.index_add(0, rows, more)

    def projected(of_bare: Tensor, linear: nn.Linear) -> Tensor:
        changed = of_bare.clone()
        changed.flatten(0, 1)[:, rows] += linear.weight @ more.t()
        return changed

    to_image, from_image = first.cross_attn_token_to_image, first.cross_attn_image_to_token
    return replace(
        shared,
        bare=bare,
        to_key=projected(shared.to_key, to_image.k_proj),
        to_value=projected(shared.to_value, to_image.v_proj),
        to_query=projected(shared.to_query, from_image.q_proj),
    )


def transform(transformer: Any, fields: Sequence[_Field], tokens: Tensor, n_out: int) -> Tensor:
    """Tokens ``(ΣB, T, C)`` after they and the images have looked at each other; so have these.

    Only the first ``n_out`` tokens come back: the last attention skips those nobody reads.
    """
    sizes = [field.n for field in fields]

    def found(attention: Any, asked: Tensor) -> Tensor:
        q = attention.q_proj(asked) * _scale(attention)
        seen = [_look(attention, one, f) for one, f in zip(q.split(sizes), fields, strict=True)]
        joined: Tensor = attention.out_proj(torch.cat(seen))
        return joined

    queries = tokens
    for layer in transformer.layers:
        queries = _self_attention(layer, queries, tokens)
        queries = layer.norm2(queries + found(layer.cross_attn_token_to_image, queries + tokens))
        queries = layer.norm3(queries + layer.mlp(queries))
        back = layer.cross_attn_image_to_token
        keys, values = back.k_proj(queries + tokens) * _scale(back), back.v_proj(queries)
        for field, k, v in zip(fields, keys.split(sizes), values.split(sizes), strict=True):
            field.move(layer.norm4(_look_back(back, k, v, field)))
    queries = queries[:, :n_out]
    seen = found(transformer.final_attn_token_to_image, queries + tokens[:, :n_out])
    last: Tensor = transformer.norm_final_attn(queries + seen)
    return last


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
    return projected.reshape(b * t, attention.num_heads, -1).transpose(0, 1)


def _scale(attention: Any) -> float:
    return float((attention.internal_dim // attention.num_heads) ** -0.5)


def _split(attention: Any, linear: nn.Linear) -> Tensor:
    """An input projection's weight by head: ``(H, d, C)``."""
    return linear.weight.view(attention.num_heads, -1, linear.weight.shape[1])


def _look(attention: Any, asked: Tensor, field: _Field) -> Tensor:
    """What tokens ``(B, T, H·d)``, projected, find in their image: ``(B, T, H·d)``."""
    (b, t, _), q = asked.shape, _heads(attention, asked)
    if field.image is None or field.placed is None:
        weights = torch.bmm(q, field.shared.to_key).softmax(-1)  # (H, B·T, N)
        values = torch.bmm(weights, field.shared.to_value.transpose(1, 2))
        return values.transpose(0, 1).reshape(b, t, -1)
    # The projections go to the tokens. The key's bias adds the same to all of a token's scores and
    # drops out of the softmax.
    image, c = field.image, field.image.shape[-1]
    folded = torch.bmm(q, _split(attention, attention.k_proj)).view(-1, b, t, c)
    folded = folded.transpose(0, 1).reshape(b, -1, c)  # (B, H·T, C)
    weights = torch.bmm(folded, field.placed.transpose(1, 2)).softmax(-1)  # (B, H·T, N)
    seen = torch.bmm(weights, image).view(b, -1, t, c)
    seen = seen.transpose(0, 1).reshape(-1, b * t, c)  # (H, B·T, C)
    values = torch.bmm(seen, _split(attention, attention.v_proj).transpose(1, 2))
    values = values + attention.v_proj.bias.view(attention.num_heads, 1, -1)
    return values.transpose(0, 1).reshape(b, t, -1)


def _look_back(attention: Any, keys: Tensor, values: Tensor, field: _Field) -> Tensor:
    """Image cells attend to projected tokens; what they see is added to them: ``(B, N, C)``."""
    (b, t, _), k, v = keys.shape, _heads(attention, keys), _heads(attention, values)
    heads, c = attention.num_heads, field.shared.bare.shape[-1]
    if field.placed is None:
        scores = torch.bmm(k, field.shared.to_query).view(heads, b, t, -1).transpose(0, 1)
    else:
        folded = torch.bmm(k, _split(attention, attention.q_proj)).view(heads, b, t, c)
        folded = folded.transpose(0, 1).reshape(b, -1, c)
        bias = torch.bmm(k, attention.q_proj.bias.view(heads, -1, 1)).view(heads, b, t, 1)
        scores = torch.bmm(folded, field.placed.transpose(1, 2)).view(b, heads, t, -1)
        scores = scores + bias.transpose(0, 1)
    weights = scores.softmax(2).reshape(b, heads * t, -1)  # over the tokens of each head

    out = attention.out_proj.weight.t().view(heads, -1, c)
    # Each head's weights add up to 1, so the heads share the output's bias.
    seen = torch.bmm(v, out) + attention.out_proj.bias / heads
    seen = seen.view(heads, b, t, c).transpose(0, 1).reshape(b, -1, c)
    if field.image is None:
        return torch.baddbmm(field.shared.bare.expand(b, -1, -1), weights.transpose(1, 2), seen)
    return field.image.baddbmm_(weights.transpose(1, 2), seen)  # nobody else holds it
