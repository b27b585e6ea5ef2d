"""What a person did in a dock, as Python and as a command that do it again.

The code gives what the dock gave: it names the part of the image that was encoded and the pixels it
was encoded at, and answers clicks one after the other as they came.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_pathsam.core.errors import BadPromptError, UnavailableError
from napari_pathsam.core.geometry import Region
from napari_pathsam.core.prompts import Prompts
from napari_pathsam.workspace.candidate import Answer
from napari_pathsam.workspace.encoding import field_embedding, nowhere
from napari_pathsam.workspace.fields import Field, MaskPrompt
from napari_pathsam.workspace.prompting import as_seen, decoded

if TYPE_CHECKING:
    from napari_pathsam.models.embedding import PromptedMask
    from napari_pathsam.workspace.segment_result import SegmentResult
    from napari_pathsam.workspace.state import WorkspaceState


@dataclass(frozen=True)
class ImageOrigin:
    """How code gets at the pixels: a file, or else a layer of the open viewer."""

    path: Path | None
    layer: str

    def lines(self) -> list[str]:
        """Python that makes ``slide``."""
        if self.path is not None:
            return [f"slide = ps.open_slide({str(self.path)!r})"]
        return [
            "# The image is in no file: run this in napari's console, where `viewer` is known.",
            "from napari_pathsam._napari.layer_source import source_of",
            "from napari_pathsam.workspace.segment_work import SourceTiles",
            "",
            f"slide = SourceTiles(source_of(viewer.layers[{self.layer!r}], viewer))",
        ]

    def argument(self) -> str:
        """The file, for a command; UnavailableError when there is none."""
        if self.path is None:
            raise UnavailableError(
                f"“{self.layer}” is not shown as it lies in a file, so a command cannot read it. "
                "Save it first (File > Save Selected Layers) and open that; or copy as Python, "
                "which runs in napari's console."
            )
        return str(self.path)


# --- segmenting ----------------------------------------------------------------------------------


def segment_python(result: SegmentResult, origin: ImageOrigin) -> str:
    """Python that makes the class map of a result, one region after the other."""
    request, options = result.request, result.request.options
    masked = any(part.outline_yx is not None for part in request.parts)
    tidy = options.smallest_px > 1 or options.fill_holes_px > 0 or options.surest > 0
    lines = ["import numpy as np", ""] if masked else []
    lines += ["import napari_pathsam as ps", "from napari_pathsam.core.geometry import Region"]
    if masked:
        lines.append("from napari_pathsam.core.prompts import polygon_mask")
    if masked and tidy:
        more = ", unfinished" if options.surest else ""
        lines.append(
            f"from napari_pathsam.inference.class_maps import SegmentSettings, finish{more}"
        )
    maps = options.probabilities or options.uncertainty
    if maps:
        lines.append("from napari_pathsam.inference.embedding_cache import EmbeddingCache")
    if options.instances:
        more = ", sharpen_tiles, sharpened" if options.sharpen else ""
        lines.append(f"from napari_pathsam.inference.objects import instances{more}")
    if maps:
        lines.append("from napari_pathsam.workspace.segment_work import cell_maps")
    lines += ["", f"model = ps.load_model({request.model!r}, device={request.device!r})"]
    lines += origin.lines()
    if maps:
        lines.append("cache = EmbeddingCache()")
    for part in request.parts:
        r = part.region
        lines += ["", f"region = Region({r.y}, {r.x}, {r.height}, {r.width})"]
        settings = f"mpp={result.at_mpp!r}, region=region"
        if options.threshold:
            settings += f", threshold={options.threshold!r}"
        if options.views:
            settings += f", views={options.views}"
        tidying = f"smallest_px={options.smallest_px}, fill_holes_px={options.fill_holes_px}"
        tidying += f", surest={options.surest!r}" if options.surest else ""
        inside = part.outline_yx is not None
        if tidy and not inside:
            settings += f", {tidying}"
        if maps:
            settings += ", cache=cache"
        if inside and options.surest:  # what is left of an area is judged
            more = ", cache=cache" if maps else ""
            lines += [
                f"settings = SegmentSettings(threshold={options.threshold!r}, "
                f"views={options.views}, {tidying})",
                f"class_map, likely = unfinished(model, slide, {result.at_mpp!r}, region=region, "
                f"settings=settings{more})",
            ]
        else:
            lines.append(f"class_map = ps.segment_classes(model, slide, {settings})")
        if part.outline_yx is not None:
            corners = [[float(v) for v in yx] for yx in part.outline_yx]
            lines += [
                f"outline = np.array({corners})",
                f"class_map[~polygon_mask(outline - ({r.y}, {r.x}), region.shape_yx)] = 0",
            ]
            if options.surest:
                lines.append("class_map = finish(class_map, settings, likely)")
            elif tidy:
                lines.append(f"class_map = finish(class_map, SegmentSettings({tidying}))")
        if maps:  # per cell of the network: maps.uncertainty, maps.probabilities
            at = f"mpp={result.at_mpp!r}, region=region"
            at += f", views={options.views}" if options.views else ""
            lines.append(
                f"maps = cell_maps(model, slide, {at}, "
                f"probabilities={options.probabilities}, cache=cache)"
            )
        if options.instances:
            lines.append(f"objects = instances(class_map, smallest_px={options.smallest_px})")
        if options.sharpen:
            lines += [
                f"mpp = {result.at_mpp!r}",
                "tiles = sharpen_tiles(model, slide, objects, mpp=mpp, region=region)",
                "objects = sharpened(objects, [found for tile in tiles for found in tile.objects])",
            ]
    return "\n".join(lines) + "\n"


def segment_command(result: SegmentResult, origin: ImageOrigin) -> str:
    """A command for each region of a result; UnavailableError where only Python can say it."""
    request, options = result.request, result.request.options
    if any(part.outline_yx is not None for part in request.parts):
        raise UnavailableError(
            "A command knows rectangles only, and these shapes have other outlines. Copy this as "
            "Python."
        )
    maps = options.probabilities or options.uncertainty
    if maps and options.sharpen:
        raise UnavailableError(
            "A command writes probabilities and uncertainty into a label pyramid (.zarr), whose "
            "objects are not outlined anew. Copy this as Python, or without “Sharpen outlines”."
        )
    suffix = "zarr" if maps else "tif"
    image, lines = origin.argument(), []
    for n, part in enumerate(request.parts, start=1):
        r = part.region
        many = f"-{n}" if len(request.parts) > 1 else ""
        words = ["pathsam", "segment", image, "--model", request.model]
        words += ["--out", f"{Path(image).stem}-classes{many}.{suffix}"]
        words += ["--mpp", f"{result.at_mpp!r}"]
        if r != Region.of(request.source.shape_yx):
            words += ["--region", f"{r.y},{r.x},{r.y + r.height},{r.x + r.width}"]
        if request.device != "auto":
            words += ["--device", request.device]
        if options.threshold:
            words += ["--threshold", f"{options.threshold!r}"]
        if options.surest:
            words += ["--surest", f"{options.surest!r}"]
        if options.smallest_px:
            words += ["--smallest", str(options.smallest_px)]
        if options.fill_holes_px:
            words += ["--fill-holes", str(options.fill_holes_px)]
        if options.views:
            words += ["--views", str(options.views)]
        if options.instances:
            words.append("--instances")
        if options.sharpen:
            words.append("--sharpen")
        if maps:
            words.append("--everywhere")
        if options.uncertainty:
            words.append("--uncertainty")
        if options.probabilities:
            words.append("--probabilities")
        lines.append(quoted(words))
    return "\n".join(lines) + "\n"


# --- prompting -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One step of a prompted object: what was said up to then, and the mask that was taken.

    ``mask`` is a first mask (a lasso, an object taken up again), ``pick`` which of the answer's
    masks the person put in front; None: the one the model thinks best.
    """

    prompts: Prompts
    mask: MaskPrompt | None = None
    pick: int | None = None


@dataclass(frozen=True)
class Prompted:
    """How an object came about: by which model, over which field, from which steps."""

    model: str
    device: str
    field: Field
    steps: tuple[Said, ...]
    mpp: float | None


def last_prompted(workspace: WorkspaceState) -> Prompted:
    """How the newest candidate of a workspace came about; BadPromptError when there was none."""
    chain = workspace.last_asked
    if not chain:
        raise BadPromptError("There is nothing to copy yet: click on an object first.")
    answer = chain[-1][1]
    steps = tuple(Said(s.prompts, s.mask, _picked(a.masks)) for s, a in chain)
    return Prompted(answer.model, workspace.device, answer.field, steps, workspace.mpp)


def answer_prompts(
    model: Any, slide: Any, field: Field, steps: Sequence[Said], *, mpp: float | None
) -> tuple[NDArray[np.bool_], float]:
    """Answer prompts one after the other, each with the answer before, as the Annotate dock does.

    Parameters
    ----------
    model
        Answers prompts.
    slide
        Read at the field.
    field
        The part of the image that is encoded, and the pixels it is encoded at.
    steps
        In level-0 pixels.
    mpp
        Microns per level-0 pixel, None where unknown.

    Returns
    -------
    The mask, ``field.region.shape_yx`` bool, and its predicted IoU.
    """
    read, shape_yx = slide.read_resampled, slide.shape_yx
    embedding, _ = field_embedding(model, read, shape_yx, field, mpp, nowhere)
    masks: PromptedMask | None = None
    for said in steps:
        seen = as_seen(field, said.prompts, said.mask, masks)
        masks = decoded(model, embedding, seen, masks, field, "").masks
        if said.pick is not None:
            masks = masks.with_best(said.pick)
    if masks is None:
        raise BadPromptError("There are no prompts to answer.")
    return Answer(masks, field, "", None).mask_over(field.region), masks.score


def _picked(masks: PromptedMask) -> int | None:
    return None if masks.best == int(np.argmax(masks.predicted_iou)) else masks.best


def mask_text(mask: MaskPrompt) -> str:
    """A mask as text that :func:`mask_of_text` reads."""
    return b64encode(zlib.compress(np.packbits(mask.mask).tobytes(), 9)).decode()


def mask_of_text(text: str, region: Region) -> MaskPrompt:
    """The inverse of :func:`mask_text`."""
    bits = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8)
    flat = np.unpackbits(bits, count=region.height * region.width).astype(bool)
    return MaskPrompt(flat.reshape(region.shape_yx), region)


def prompt_python(done: Prompted, origin: ImageOrigin) -> str:
    """Python that makes the mask on offer."""
    r, shape = done.field.region, done.field.shape_yx
    names = ["Said", "answer_prompts"]
    if any(said.mask is not None for said in done.steps):
        names.append("mask_of_text")
    lines = [
        "import napari_pathsam as ps",
        "from napari_pathsam.core.geometry import Region",
        "from napari_pathsam.workspace import Field",
        f"from napari_pathsam.workspace.scripting import {', '.join(names)}",
        "",
        f"model = ps.load_model({done.model!r}, device={done.device!r})",
        *origin.lines(),
        f"field = Field(Region({r.y}, {r.x}, {r.height}, {r.width}), {tuple(shape)!r})",
        "steps = [",
        *(f"    {_said_text(said)}," for said in done.steps),
        "]",
        f"mask, score = answer_prompts(model, slide, field, steps, mpp={done.mpp!r})",
    ]
    return "\n".join(lines) + "\n"


def prompt_command(done: Prompted, origin: ImageOrigin) -> str:
    """A command that makes the mask on offer; UnavailableError where only Python can say it."""
    image, r = origin.argument(), done.field.region
    last = done.steps[-1].prompts
    if done.steps not in ((Said(last),), turns_of(last)):
        raise UnavailableError(
            "This object came about by a lasso, another mask of the three, or clicks in an order "
            "that a command cannot say. Copy it as Python."
        )
    words = ["pathsam", "prompt", image, "--model", done.model]
    words += ["--out", f"{Path(image).stem}-object.png"]
    for (y, x), positive in zip(last.points_yx, last.positive, strict=True):
        words += ["--point" if positive else "--negative", f"{float(y)!r},{float(x)!r}"]
    if last.box is not None:
        words += ["--box", ",".join(repr(float(v)) for v in last.box)]
    if done.mpp is not None:
        words += ["--mpp", f"{done.mpp!r}"]
    h, w = done.field.shape_yx
    words += ["--field", f"{r.y},{r.x},{r.y + r.height},{r.x + r.width},{h},{w}"]
    if len(done.steps) > 1:
        words.append("--in-turn")
    if done.device != "auto":
        words += ["--device", done.device]
    return quoted(words) + "\n"


def turns_of(prompts: Prompts) -> tuple[Said, ...]:
    """The steps that end in these prompts when their points come one after the other."""
    n = len(prompts.points_yx)
    first = 0 if prompts.box is not None else 1
    return tuple(
        Said(replace(prompts, points_yx=prompts.points_yx[:k], positive=prompts.positive[:k]))
        for k in range(min(first, n), n + 1)
    )


def _said_text(said: Said) -> str:
    parts = [_prompts_text(said.prompts)]
    if said.mask is not None:
        r = said.mask.region
        where = f"Region({r.y}, {r.x}, {r.height}, {r.width})"
        parts.append(f"mask=mask_of_text({mask_text(said.mask)!r}, {where})")
    if said.pick is not None:
        parts.append(f"pick={said.pick}")
    return f"Said({', '.join(parts)})"


def _prompts_text(prompts: Prompts) -> str:
    parts = []
    if prompts.points_yx:
        points = tuple((float(y), float(x)) for y, x in prompts.points_yx)
        parts.append(f"points_yx={points!r}, positive={tuple(map(bool, prompts.positive))!r}")
    if prompts.box is not None:
        parts.append(f"box={tuple(map(float, prompts.box))!r}")
    return f"ps.Prompts({', '.join(parts)})"


def quoted(words: Sequence[str]) -> str:
    """One line for this system's shell."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
