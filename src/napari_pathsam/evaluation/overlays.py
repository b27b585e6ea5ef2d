"""Overlays: objects drawn on their image, smooth at any zoom, with their prompts and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from napari_pathsam.core.class_map import UNSURE
from napari_pathsam.core.classes import ClassTable
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts, tight_box

COLORS = (
    "#ffb000", "#00c2ff", "#7dff5a", "#ff5ec4", "#fff04d", "#9b8cff",
    "#ff7a45", "#2ef2c2", "#d6ff3e", "#ff8fa3",
)  # fmt: skip
REFERENCE = "#ffffff"
POSITIVE, NEGATIVE, BOX = "#19c553", "#f0323c", "#ffffff"
PAPER, INK, FAINT = "#15161a", "#f3f3f5", "#a3a6b0"
SMOOTH = 4  # prompts are drawn this much larger and reduced: Pillow's shapes have hard edges


@dataclass(frozen=True)
class DrawnObject:
    """One object of an overlay; ``reference`` is what it should have been."""

    mask: NDArray[np.bool_]
    prompts: Prompts | None = None
    reference: NDArray[np.bool_] | None = None

    def inside(self, region: Region) -> DrawnObject:
        """The object on a cut-out of its image."""
        return DrawnObject(
            self.mask[region.slices],
            self.prompts and self.prompts.shifted(-region.y, -region.x),
            None if self.reference is None else self.reference[region.slices],
        )


def overlay(
    image: NDArray[np.uint8], objects: Sequence[DrawnObject], *, zoom: float = 1.0
) -> Image.Image:
    """The image with translucent fills, contours, thin white references, and prompts on top."""
    height, width = (round(n * zoom) for n in image.shape[:2])
    enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.asarray(enlarged, np.float32)
    for i, drawn in enumerate(objects):
        color = COLORS[i % len(COLORS)]
        _blend(canvas, drawn.mask, color, fill=0.28, line_px=max(2.0, 1.3 * zoom))
    for drawn in objects:
        if drawn.reference is not None:
            _blend(canvas, drawn.reference, REFERENCE, fill=0, line_px=1.0)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    _draw_prompts(picture, [d.prompts for d in objects if d.prompts], zoom)
    return picture


def overlay_classes(
    image: NDArray[np.uint8],
    class_map: NDArray[np.integer],
    classes: ClassTable,
    *,
    reference: NDArray[np.integer] | None = None,
    zoom: float = 1.0,
) -> Image.Image:
    """The image with its classes filled and outlined in their colours, and a legend beside it.

    Parameters
    ----------
    image, class_map
        ``(H, W, 3)`` and the class ids of its pixels ``(H, W)``; 255 is unsure.
    reference
        Class ids that should have been found: white outlines.
    zoom
        Pixels of the picture per pixel of the image.

    Returns
    -------
    RGB; the legend says which share of the image each class has.
    """
    height, width = (round(n * zoom) for n in image.shape[:2])
    enlarged = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    canvas = np.asarray(enlarged, np.float32)
    entries = [(info.name, info.color, class_map == info.id) for info in classes]
    if (unsure := class_map == UNSURE).any():
        entries.append(("unsure", FAINT, unsure))
    for _, color, mask in entries:
        _blend(canvas, mask, color, fill=0.3, line_px=max(1.5, 1.2 * zoom))
    if reference is not None:
        for info in classes:
            _blend(canvas, reference == info.id, REFERENCE, fill=0, line_px=1.0)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    rows = [(f"{name}  {100 * mask.mean():.1f} %", color) for name, color, mask in entries]
    if reference is not None:
        rows.append(("as labelled", REFERENCE))
    return _with_class_legend(picture, rows)


def _with_class_legend(picture: Image.Image, rows: Sequence[tuple[str, str]]) -> Image.Image:
    """The picture with a column of coloured squares and names at its right."""
    gap, line, square, font = 14, 26, 16, _font(16)
    pen = ImageDraw.Draw(picture)
    wide = round(max((pen.textlength(text, font) for text, _ in rows), default=0))
    size = (
        picture.width + wide + square + 3 * gap,
        max(picture.height, 2 * gap + line * len(rows)),
    )
    sheet = Image.new("RGB", size, PAPER)
    sheet.paste(picture, (0, 0))
    pen = ImageDraw.Draw(sheet)
    x = picture.width + gap
    for i, (text, color) in enumerate(rows):
        y = gap + line * i + line // 2
        pen.rectangle((x, y - square // 2, x + square, y + square // 2), fill=color)
        pen.text((x + square + gap // 2, y), text, INK, font, anchor="lm")
    return sheet


def _blend(
    canvas: NDArray[np.float32], mask: NDArray[np.bool_], color: str, *, fill: float, line_px: float
) -> None:
    """Paint one object into ``(H, W, 3)`` in place, by its distance to its own smooth outline."""
    if not mask.any():
        return
    zoom = canvas.shape[0] / mask.shape[0], canvas.shape[1] / mask.shape[1]
    box = tight_box(mask)
    y0, x0 = (max(0, int(v) - 6) for v in box[:2])
    y1, x1 = (min(n, int(v) + 6) for v, n in zip(box[2:], mask.shape, strict=True))
    top, left, bottom, right = (
        round(y0 * zoom[0]), round(x0 * zoom[1]), round(y1 * zoom[0]), round(x1 * zoom[1])
    )  # fmt: skip
    # Blurring by s turns a straight edge into a ramp of slope 1 / (s √2π): near the edge that is
    # the distance to it, without the staircase of the pixels, and cheaper than a transform.
    blur_px = max(line_px, 0.8 * max(zoom))
    cropped = Image.fromarray(mask[y0:y1, x0:x1].astype(np.uint8) * 255)
    larger = cropped.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    soft = np.asarray(larger.filter(ImageFilter.GaussianBlur(blur_px)), np.float32) / 255
    distance = (soft - 0.5) * (blur_px * math.sqrt(2 * math.pi))
    line = np.clip(line_px / 2 + 0.5 - np.abs(distance), 0, 1)
    alpha = np.maximum(line, fill * np.clip(distance + 0.5, 0, 1))[..., None]
    window = canvas[top:bottom, left:right]
    window += alpha * (np.asarray(ImageColor.getrgb(color), np.float32) - window)


def _draw_prompts(picture: Image.Image, prompts: Sequence[Prompts], zoom: float) -> None:
    """Boxes dashed, clicks as discs with a plus or a minus."""
    few = len(prompts) <= 30
    radius = (7.0 if few else 4.0) * SMOOTH
    sheet = Image.new("RGBA", (picture.width * SMOOTH, picture.height * SMOOTH))
    draw = ImageDraw.Draw(sheet)

    def at(y: float, x: float) -> tuple[float, float]:
        return ((x + 0.5) * zoom * SMOOTH, (y + 0.5) * zoom * SMOOTH)

    for one in prompts:
        if one.box is not None:
            y0, x0, y1, x1 = (v - 0.5 for v in one.box)
            _dashed_box(draw, (*at(y0, x0), *at(y1, x1)))
        for (y, x), positive in zip(one.points_yx, one.positive, strict=True):
            _disc(draw, at(y, x), radius, positive=positive)
    small = sheet.resize(picture.size, Image.Resampling.BOX)
    picture.paste(small, mask=small.getchannel("A"))


def _dashed_box(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = box
    dash = 6 * SMOOTH
    for a, b, fixed, upright in (
        (x0, x1, y0, False), (x0, x1, y1, False), (y0, y1, x0, True), (y0, y1, x1, True)
    ):  # fmt: skip
        for k, start in enumerate(np.arange(a, b, dash)):
            end = min(start + dash, b)
            line = (fixed, start, fixed, end) if upright else (start, fixed, end, fixed)
            draw.line(line, fill=BOX if k % 2 else "#202020", width=round(1.5 * SMOOTH))


def _disc(
    draw: ImageDraw.ImageDraw, center_xy: tuple[float, float], radius: float, *, positive: bool
) -> None:
    x, y = center_xy
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="white")
    inner = 0.8 * radius
    color = POSITIVE if positive else NEGATIVE
    draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=color)
    arm, width = 0.45 * radius, max(1, round(0.25 * radius))
    draw.line((x - arm, y, x + arm, y), fill="white", width=width)
    if positive:
        draw.line((x, y - arm, x, y + arm), fill="white", width=width)


def poster(
    title: str,
    subtitle: str,
    panels: Sequence[tuple[str, Image.Image]],
    *,
    with_reference: bool,
) -> Image.Image:
    """Overlays side by side, each under its caption, with a title above and a legend below."""
    gap, head, caption, foot = 24, 92, 40, 60
    width = gap + sum(p.width + gap for _, p in panels)
    height = head + caption + max(p.height for _, p in panels) + foot
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 18), title, INK, _font(30))
    draw.text((gap, 58), subtitle, FAINT, _font(18))
    x = gap
    for text, picture in panels:
        draw.text((x, head + 8), text, INK, _font(20))
        sheet.paste(picture, (x, head + caption))
        x += picture.width + gap
    _legend(sheet, gap, height - foot // 2, with_reference=with_reference)
    return sheet


def _legend(sheet: Image.Image, x: int, y: int, *, with_reference: bool) -> None:
    draw = ImageDraw.Draw(sheet)
    entries = ["found", "click on it", "click beside it", "box"]
    entries += ["reference outline"] if with_reference else []
    for entry in entries:
        mark = Image.new("RGBA", (26 * SMOOTH, 26 * SMOOTH))
        pen = ImageDraw.Draw(mark)
        middle = 13 * SMOOTH
        if entry == "found":
            edge = (3 * SMOOTH, 5 * SMOOTH, 23 * SMOOTH, 21 * SMOOTH)
            pen.ellipse(edge, fill=COLORS[0] + "55", outline=COLORS[0], width=2 * SMOOTH)
        elif entry == "box":
            _dashed_box(pen, (3.0 * SMOOTH, 5.0 * SMOOTH, 23.0 * SMOOTH, 21.0 * SMOOTH))
        elif entry == "reference outline":
            pen.line((2 * SMOOTH, middle, 24 * SMOOTH, middle), fill=REFERENCE, width=SMOOTH)
        else:
            _disc(pen, (middle, middle), 8.0 * SMOOTH, positive=entry == "click on it")
        small = mark.resize((26, 26), Image.Resampling.BOX)
        sheet.paste(small, (x, y - 13), small.getchannel("A"))
        draw.text((x + 32, y), entry, INK, _font(18), anchor="lm")
        x += 32 + round(draw.textlength(entry, _font(18))) + 28


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
