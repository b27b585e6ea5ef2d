"""Plots of a report (matplotlib, the extra ``plots``), as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.evaluation.class_scores import ClassScore
from napari_pathsam.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, INK = "#2f6fb0", "#e08a2b", "#9aa0aa", "#23262d"
MANY_POINTS = 3000


def plots_of(report: Report, scores: Sequence[Any]) -> dict[str, tuple[str, bytes]]:
    """What can be drawn of a report: title and PNG by file name.

    Raises
    ------
    UnavailableError
        matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnavailableError(
            "Plots need matplotlib: pip install 'napari-pathsam[plots]'. Everything else of the "
            "report is there without it."
        ) from error
    drawn = {}
    for name, (title, fits, draw, size) in PLOTS.items():
        if not fits(report, scores):
            continue
        figure = Figure(figsize=size, dpi=130, layout="constrained")
        draw(figure, report, scores)
        buffer = io.BytesIO()
        # Without the version in it, equal plots are equal files.
        figure.savefig(buffer, format="png", metadata={"Software": None})
        drawn[name] = (title, buffer.getvalue())
    return drawn


def _bars(figure: Figure, report: Report, _: Sequence[Any]) -> None:
    """Dice and IoU of each class, or the figures of the only one, with their intervals."""
    per_class = report.metrics["per_class"]
    axes = _axes(figure)
    if len(per_class) > 1:
        names = list(per_class)
        for k, (key, color) in enumerate((("dice", BLUE), ("iou", ORANGE))):
            values = [per_class[n][key] for n in names]
            bounds = [_bounds(report, f"{n}: {key}") for n in names]
            at = np.arange(len(names)) + (k - 0.5) * 0.38
            _bar(axes, at, values, bounds, color, label={"dice": "Dice", "iou": "IoU"}[key])
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    else:
        known = {k: t for k, t in SINGLE.items() if report.metrics.get(k) is not None}
        names = list(known.values())
        values = [report.metrics[k] for k in known]
        _bar(axes, np.arange(len(known)), values, [_bounds(report, k) for k in known], BLUE)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 5 else 0, ha="center"
                    if len(names) <= 5 else "right")  # fmt: skip
    axes.set_ylim(0, 1.08)
    axes.yaxis.grid(visible=True, color="#e6e8ec")
    axes.set_axisbelow(True)


SINGLE = {
    "dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall",
    "boundary_f1": "boundary F1", "object_f1": "object F1", "object_dice": "object Dice",
    "pq": "PQ", "aji": "AJI", "msa": "mSA",
}  # fmt: skip


def _confusion(figure: Figure, report: Report, _: Sequence[Any]) -> None:
    """What the pixels of each class were called, as shares of its row."""
    told = report.metrics.get("tiles", report.metrics)["confusion"]
    counts = np.array(told["tiles" if "tiles" in told else "pixels"], float)
    known = counts.sum(axis=1) + counts.sum(axis=0) > 0
    counts, names = counts[known][:, known], np.array(told["classes"])[known]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes = _axes(figure)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        told_row = counts[i].sum() > 0
        text = f"{100 * value:.0f}" if told_row else "–"
        axes.text(j, i, text, ha="center", va="center", color="white" if value > 0.6 else INK)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _reliability(figure: Figure, report: Report, _: Sequence[Any]) -> None:
    """Share that is right by confidence; below, how many pixels have that confidence."""
    told = report.metrics["calibration"]
    confidence, right, share = (
        np.array([np.nan if v is None else v for v in told[k]], float)
        for k in ("confidence", "right", "share_of_pixels")
    )
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    n = len(share)
    edges = np.arange(n) / n
    upper.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="as sure as it is right")
    seen = share > 1e-4
    upper.plot(confidence[seen], right[seen], "o-", color=BLUE, ms=4, label="this model")
    upper.set_ylabel("share of pixels that are right")
    upper.legend(frameon=False, loc="upper left")
    upper.set_title(f"expected calibration error {told['ece']:.3f}", loc="left", fontsize=10)
    upper.set_ylim(0, 1.02)
    lower.bar(edges, share, width=1 / n, align="edge", color=BLUE, edgecolor="white")
    lower.set_ylabel("pixels")
    lower.set_xlabel("probability the model gave to its answer")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)


def _sizes(figure: Figure, _: Report, scores: Sequence[Any]) -> None:
    """Dice (or IoU after clicks) of each labelled object by its size, and medians."""
    from matplotlib.ticker import LogLocator

    areas, values, what, unit = _by_size(scores)
    axes = _axes(figure)
    diameter = 2 * np.sqrt(areas / np.pi)
    some = np.random.default_rng(0).permutation(len(areas))[:MANY_POINTS]
    size = 6 if len(some) < 300 else 4
    axes.plot(diameter[some], values[some], ".", color=GREY, ms=size, alpha=0.5, mew=0)
    order = np.argsort(diameter)
    parts = [p for p in np.array_split(order, min(10, max(1, len(order) // 15))) if len(p)]
    at = [float(np.median(diameter[p])) for p in parts]
    low, middle, high = (
        [float(np.quantile(values[p], q)) for p in parts] for q in (0.25, 0.5, 0.75)
    )
    axes.fill_between(at, low, high, color=BLUE, alpha=0.2, lw=0, label="middle half")
    axes.plot(at, middle, "o-", color=BLUE, ms=4, label="median")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(f"diameter of a disc as large as the object ({unit})")
    axes.set_ylabel(what)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _clicks(figure: Figure, report: Report, _: Sequence[Any]) -> None:
    """IoU by clicks, with intervals; boxes and scribbles beside it."""
    metrics = report.metrics
    axes = _axes(figure)
    n = [int(k) for k in metrics["iou_at_clicks"]]
    values = list(metrics["iou_at_clicks"].values())
    bounds = np.array([_bounds(report, f"iou_at_{k}") for k in n], float)
    axes.fill_between(n, bounds[:, 0], bounds[:, 1], color=BLUE, alpha=0.2, lw=0)
    axes.plot(n, values, "o-", color=BLUE, label="clicks")
    axes.set_xticks(n)
    for key, label, color, style in (
        ("iou_box", "box", ORANGE, "-"),
        ("iou_noisy_box", "noisy box", ORANGE, "--"),
        ("iou_scribble", "scribble", "#5a9a4a", "-."),
        ("iou_ellipse", "ellipse in the box (baseline)", GREY, ":"),
    ):
        axes.axhline(metrics[key], color=color, ls=style, lw=1.5, label=label)
    axes.set_xlabel("clicks")
    axes.set_ylabel("IoU, mean over objects")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, loc="lower right", ncols=2)


def _by_size(scores: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, str, str]:
    if isinstance(scores[0], ClassScore):
        micron = all(s.pixel_size != "model" for s in scores)
        pairs = [(a * (s.mpp**2 if micron else 1), d) for s in scores for a, d in s.sizes]
        what, unit = "Dice with the prediction it shares most with", "µm" if micron else "px"
    else:
        pairs = [(o.area_px, o.iou_after(3)) for s in scores for o in s.objects]
        what, unit = "IoU after at most 3 clicks", "px"
    table = np.array(pairs, float).reshape(-1, 2)
    return table[:, 0], table[:, 1], what, unit


def _axes(figure: Figure) -> Axes:
    axes: Axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _bar(
    axes: Axes,
    at: np.ndarray,
    values: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    color: str,
    label: str | None = None,
) -> None:
    heights = np.array([np.nan if v is None else v for v in values], float)
    width = 0.36 if label else 0.6
    axes.bar(at, heights, width=width, color=color, label=label)
    low, high = np.array(bounds, float).T
    off = np.array([np.maximum(heights - low, 0), np.maximum(high - heights, 0)])
    known = ~np.isnan(off).any(axis=0)
    axes.errorbar(at[known], heights[known], off[:, known], fmt="none", ecolor=INK, capsize=3, lw=1)
    for x, value, top in zip(at, heights, np.fmax(high, heights), strict=True):
        if not np.isnan(value):
            axes.text(x, top + 0.015, f"{value:.2f}", ha="center", va="bottom", fontsize=8)


def _bounds(report: Report, name: str) -> tuple[float, float]:
    figures: Mapping[str, Sequence[float | None]] = report.metrics["intervals"]["figures"]
    low, high = figures.get(name, (None, None))
    return (np.nan if low is None else low, np.nan if high is None else high)


def _has_sizes(_: Report, scores: Sequence[Any]) -> bool:
    if not scores:
        return False
    if isinstance(scores[0], ClassScore):
        return any(s.sizes for s in scores)
    return hasattr(scores[0], "objects") and any(s.objects for s in scores)


Draw = Callable[["Figure", Report, Sequence[Any]], None]
PLOTS: dict[str, tuple[str, Callable[[Report, Sequence[Any]], bool], Draw, tuple[float, float]]] = {
    "classes": ("Figures, with intervals", lambda r, _: "per_class" in r.metrics, _bars, (7, 3.6)),
    "clicks": (
        "IoU by prompts", lambda r, _: bool(r.metrics.get("n_objects")) and "iou_box" in r.metrics,
        _clicks, (6, 3.8),
    ),
    "confusion": (
        "Confusion, in % of each row",
        lambda r, _: "confusion" in r.metrics or "tiles" in r.metrics, _confusion, (5, 4.4),
    ),
    "reliability": (
        "Reliability", lambda r, _: "calibration" in r.metrics, _reliability, (5, 4.8),
    ),
    "sizes": ("By object size", _has_sizes, _sizes, (6, 3.8)),
}  # fmt: skip
"""By file name: title, whether it can be drawn, how, and the size in inches."""
