"""Tables of what ``pathsam evaluate`` measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rich.table import Table

from napari_pathsam.evaluation.report import Report

PROMPTS = {
    "iou_box": "box",
    "iou_noisy_box": "noisy box",
    "iou_scribble": "scribble",
    "iou_ellipse": "ellipse in the box (baseline)",
    "iou_component": "area of its class under the click (baseline)",
}
FIGURES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall"}


def class_table(report: Report) -> Table:
    """Foreground and each class, from pooled counts; below, objects, tiles and pixel sizes."""
    metrics = report.metrics
    table = _empty(report, "pooled over images")
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    table.add_row("foreground", *(_sure(report, k, metrics[k]) for k in FIGURES))
    per_class = metrics["per_class"]
    for name, values in per_class.items() if len(per_class) > 1 else ():
        table.add_row(name, *(_sure(report, f"{name}: {k}", values[k]) for k in FIGURES))
    if len(per_class) > 1:
        for row, kind in (("mean of classes", "mean"), ("classes together", "micro")):
            keys = [f"{kind}_{k}" for k in FIGURES]
            table.add_row(row, *(_sure(report, k, metrics[k]) for k in keys))
    table.caption = "\n".join(_remarks(report))
    return table


def prompt_table(report: Report) -> Table:
    """IoU by number of clicks and with a box; below, what was counted and how long it took."""
    metrics = report.metrics
    table = _empty(report, "mean over objects")
    table.add_column("IoU", justify="right")
    for n, value in metrics["iou_at_clicks"].items():
        table.add_row(f"{n} click{'s' if n != '1' else ''}", _sure(report, f"iou_at_{n}", value))
    for key, row in PROMPTS.items():
        if key in metrics:
            table.add_row(row, _sure(report, key, metrics[key]))
    clicks = ", ".join(
        f"{_sure(report, f'noc_{goal}', places=1)} clicks to an IoU of 0.{goal} "
        f"({metrics[f'noc_{goal}_failed']:.0%} of the objects never)"
        for goal in (80, 90)
    )
    table.caption = (
        f"{clicks}, of at most {report.settings['most_clicks']}\n"
        f"{metrics['n_objects']} objects in {report.n_images} images, {metrics['n_too_small']} "
        f"under {report.settings['smallest_px']} px left out; "
        f"{metrics['ms_per_click']:.0f} ms a click, {metrics['ms_to_encode']:.0f} ms to encode"
        f"{_dropped(report)}\n" + "\n".join(_of_intervals(report))
    )
    return table


def everything_table(report: Report) -> Table:
    """What a grid of points found of the objects; below, how much it found and how long it took."""
    metrics = report.metrics
    table = _empty(report, "segment everything")
    table.add_column("", justify="right")
    for key, row in (
        ("best_iou", "IoU of each object's best mask"),
        ("share_found", "objects with a mask of IoU ≥ 0.5"),
        ("foreground_dice", "all masks as foreground, Dice"),
    ):
        table.add_row(row, _sure(report, key, metrics[key]))
    table.caption = (
        f"{metrics['n_found']} masks for {metrics['n_objects']} objects in {report.n_images} "
        f"images, {metrics['n_too_small']} under {report.settings['smallest_px']} px left out; "
        f"{metrics['seconds_per_image']:.1f} s an image{_dropped(report)}\n"
        + "\n".join(_of_intervals(report))
    )
    return table


def _sure(report: Report, name: str, value: float | None = None, places: int = 3) -> str:
    """A figure, by default the one of this name, and its interval, where there are such."""
    value = report.metrics[name] if value is None else value
    if math.isnan(value):
        return "–"
    low, high = report.metrics["intervals"]["figures"].get(name, (math.nan, math.nan))
    told = f"{value:.{places}f}"
    return told if math.isnan(low) else f"{told}[dim] {low:.{places}f}–{high:.{places}f}[/dim]"


def _of_intervals(report: Report) -> list[str]:
    told = report.metrics["intervals"]
    if told["groups"] < 2:
        return ["One patient, slide, case or image only: there are no intervals."]
    few = "" if told["groups"] >= 10 else "; few, so they are rough"
    return [f"{told['level']:.0%} intervals: {report.drawn}{few}"]


def _dropped(report: Report) -> str:
    """The post-processing, where there was one."""
    share = report.settings.get("largest_share")
    return "" if share is None else f"; masks over {share:.0%} of the image dropped"


def _empty(report: Report, first: str) -> Table:
    table = Table(title=f"{report.model} on {report.dataset}, {report.split}", title_justify="left")
    table.add_column(first, no_wrap=True)
    table.caption_justify = "left"
    return table


def _remarks(report: Report) -> list[str]:
    metrics, sure = report.metrics, partial(_sure, report)
    remarks = []
    if "objects" in metrics:
        n = metrics["objects"]
        remarks.append(
            f"objects, pooled: F1 {sure('object_f1')}, Dice {sure('object_dice')}, "
            f"Hausdorff {sure('object_hausdorff', places=1)} px ({n['in_labels']} in the labels, "
            f"{n['predicted']} predicted, {n['lone']} in images without the other)"
        )
    if "boundary_f1" in metrics:
        within = report.settings["boundary_px"]
        remarks.append(f"boundary F1 within {within:g} px: {sure('boundary_f1')}")
    if "tiles" in metrics:
        tiles = metrics["tiles"]
        recall = ", ".join(f"{name} {value:.2f}" for name, value in tiles["recall"].items())
        remarks.append(f"{tiles['n']} tiles, accuracy {sure('tile_accuracy')}; right of {recall}")
    if "pq" in metrics:
        remarks.append(
            f"PQ {sure('pq')} (SQ {sure('sq')}, RQ {sure('rq')}), AJI {sure('aji')}, mSA "
            f"{sure('msa')}; {sure('count_error', places=1)} objects too many or too few an image"
        )
    if "mpq" in metrics:
        remarks.append(
            f"mPQ {sure('mpq')} over the data set, "
            f"{metrics['per_image']['mpq']:.3f} as a mean over images"
        )
    done = report.settings.get("post_processing", "none")
    remarks.append("no post-processing" if done == "none" else f"post-processing: {done}")
    if "ece" in metrics:
        remarks.append(f"expected calibration error: {sure('ece')}")
    remarks += _of_intervals(report)
    seconds = metrics["seconds_per_image"]
    remarks.append(f"{report.n_images} images, {1000 * seconds:.0f} ms each (median)")
    return remarks + _pixel_sizes(metrics["pixel_size"])


def _pixel_sizes(told: Mapping[str, Any]) -> list[str]:
    remarks = []
    sizes = ", ".join(f"{mpp:g}" for mpp in told["mpp"][:4])
    if n := told["images"].get("nominal"):
        remarks.append(
            f"The pixel size of {n} images is not published; an estimate was taken ({sizes} µm). "
            "Give another with --mpp."
        )
    if n := told["images"].get("model"):
        remarks.append(
            f"The pixel size of {n} images is not known; they were taken as they are, at the "
            f"model's {sizes} µm. Give theirs with --mpp."
        )
    return remarks


TABLES: dict[str, Callable[[Report], Table]] = {
    "classes": class_table,
    "prompts": prompt_table,
    "everything": everything_table,
}
"""By task."""
