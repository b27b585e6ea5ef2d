"""``pathsam prompt``: clicks and a box on an image → the object's mask in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pathsam.cli.console import (
    OUT,
    DeviceOption,
    IccOption,
    ModelOption,
    MppOption,
    load_promptable,
)

if TYPE_CHECKING:
    from napari_pathsam.core.prompts import Prompts
    from napari_pathsam.inference.segment import PromptedObject
    from napari_pathsam.io.slides import Slide
    from napari_pathsam.models.promptable import Promptable

SUFFIXES = (".png", ".tif", ".tiff", ".geojson")


def prompt(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[Path, typer.Option("--out", help="MASK.png, .tif or .geojson.")],
    point: Annotated[
        list[str] | None,
        typer.Option("--point", metavar="Y,X …", help="On the object. May be repeated."),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", metavar="Y,X …", help="Not on the object. May be repeated."),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="Y0,X0,Y1,X1", help="Round the object.")
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            "--field",
            metavar="Y0,X0,Y1,X1,H,W",
            help="Encode this part of the image, at H × W pixels.",
        ),
    ] = None,
    in_turn: Annotated[
        bool,
        typer.Option("--in-turn", help="Answer the points one after the other, as the dock does."),
    ] = False,
    model: ModelOption = "pathsam-nano",
    mpp: MppOption = None,
    icc: IccOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Segment the object under some clicks or in a box.

    Coordinates are pixels of the image, row first: 0,0 is its upper left.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"it must end in {', '.join(SUFFIXES)}.", param_hint="--out")
    positive = [_numbers("--point", p, 2) for p in point or ()]
    negatives = [_numbers("--negative", p, 2) for p in negative or ()]
    corners = None if box is None else _numbers("--box", box, 4)
    if not positive and corners is None:
        raise typer.BadParameter("say where the object is, with --point or --box.")
    if corners and not (corners[2] > corners[0] and corners[3] > corners[1]):
        raise typer.BadParameter(
            f"{box} has no area; it goes from the upper left to the lower right.",
            param_hint="--box",
        )
    from napari_pathsam.core.prompts import Prompts
    from napari_pathsam.inference.segment import segment_prompted
    from napari_pathsam.io.slides import open_slide

    asked = Prompts(box=None if corners is None else (*corners[:2], *corners[2:]))  # type: ignore[arg-type]
    for sign, points in ((True, positive), (False, negatives)):
        for y, x in points:
            asked = asked.with_point(y, x, positive=sign)
    slide = open_slide(image, icc=icc)
    try:
        asked.check(slide.shape_yx)  # before the model is loaded
        if field is None:
            found = segment_prompted(load_promptable(model, device), slide, asked, mpp=mpp)
        else:
            numbers = _numbers("--field", field, 6)
            found = _in_field(
                load_promptable(model, device), slide, asked, numbers, mpp, in_turn=in_turn
            )
        _write(out, found, slide.shape_yx, mpp or slide.mpp)
    finally:
        slide.close()
    OUT.print(f"{out}: {found.mask.sum():,} pixels, predicted IoU {found.score:.2f}")


def _in_field(
    model: Promptable,
    slide: Slide,
    asked: Prompts,
    numbers: tuple[float, ...],
    mpp: float | None,
    *,
    in_turn: bool,
) -> PromptedObject:
    """The object as the Annotate dock answers, from a field it names."""
    from napari_pathsam.core.geometry import Region
    from napari_pathsam.inference.segment import PromptedObject
    from napari_pathsam.workspace import Field
    from napari_pathsam.workspace.scripting import Said, answer_prompts, turns_of

    y0, x0, y1, x1, height, width = (round(v) for v in numbers)
    whole = Region.of(slide.shape_yx)
    region = whole.intersection(Region(y0, x0, max(y1 - y0, 1), max(x1 - x0, 1)))
    if region is None or y1 <= y0 or x1 <= x0 or min(height, width) < 1:
        raise typer.BadParameter(
            f"it is no part of the image, which has {whole.height} × {whole.width} pixels.",
            param_hint="--field",
        )
    steps = turns_of(asked) if in_turn else (Said(asked),)
    mask, score = answer_prompts(model, slide, Field(region, (height, width)), steps, mpp=mpp)
    return PromptedObject(mask, region, score)


def _write(path: Path, found: PromptedObject, shape_yx: tuple[int, int], mpp: float | None) -> None:
    import numpy as np

    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.core.errors import BadImageError
    from napari_pathsam.io.annotations import write_geojson
    from napari_pathsam.io.images import LARGEST_SIDE_PX, write_labels

    path.parent.mkdir(parents=True, exist_ok=True)
    classes = ClassTable.of("object")
    if path.suffix.lower() == ".geojson":
        write_geojson(
            path,
            found.mask.astype(np.int32),
            class_of={1: 1},
            classes=classes,
            offset_yx=(found.region.y, found.region.x),
            mpp=mpp,
        )
    elif max(shape_yx) > LARGEST_SIDE_PX:
        raise BadImageError(
            f"A mask of {shape_yx[0]} × {shape_yx[1]} pixels is too large for a {path.suffix} file "
            f"(at most {LARGEST_SIDE_PX} a side). Write outlines instead: --out {path.stem}.geojson"
        )
    else:
        write_labels(path, found.in_image(shape_yx).astype(np.uint8), classes)


def _numbers(option: str, text: str, n: int) -> tuple[float, ...]:
    """``"12,30"`` as numbers; a wrong command line otherwise."""
    wanted = {2: "Y,X", 4: "Y0,X0,Y1,X1", 6: "Y0,X0,Y1,X1,H,W"}[n]
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != n or not all(abs(v) < 1e9 for v in numbers):
        raise typer.BadParameter(
            f"{text!r} is not {wanted}: {n} numbers with commas, row before column.",
            param_hint=option,
        )
    return numbers
