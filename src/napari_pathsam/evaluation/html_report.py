"""A report as one HTML file that opens without a network: figures, plots, pictures, provenance."""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from napari_pathsam.evaluation.gallery import GalleryPicture
from napari_pathsam.evaluation.headlines import Headline
from napari_pathsam.evaluation.report import Report
from napari_pathsam.io._files import replacing

STYLE = """
:root { color-scheme: light dark; --ink: #23262d; --faint: #6b7280; --paper: #fff; --line: #e2e5ea }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9eaee; --faint: #9aa0aa; --paper: #16181d; --line: #343842 }
  .plot { background: #fff; border-radius: 6px }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1180px; margin: 2rem auto; padding: 0 1.2rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p.faint, td.faint, figcaption, small { color: var(--faint) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top }
th { font-weight: 600 } td.n, th.n { text-align: right }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem }
figure { margin: 0 } .plots img { max-width: 560px; width: 100% }
.gallery figure { margin: 0 0 1.4rem } .gallery img { max-width: 100% }
.chip { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 .9em }
code { font-size: .85em; overflow-wrap: anywhere }
"""
QUALITY = 85
COUNTED = {
    "n_objects": "labelled objects",
    "n_too_small": "smaller ones, left out",
    "n_found": "masks found",
    "n_absent_classes": "classes that were neither labelled nor predicted",
    "ms_per_click": "ms a click (median)",
    "ms_to_encode": "ms to encode an image (median)",
    "seconds_per_image": "s an image (median)",
}


def html_report(
    report: Report,
    headlines: Mapping[str, Headline],
    plots: Mapping[str, tuple[str, bytes]],
    pictures: Sequence[GalleryPicture],
    *,
    remark: str = "",
) -> str:
    """The page; ``remark`` says what is not in it."""
    told = report.metrics["intervals"]
    drawn = (
        f"{told['level']:.0%} intervals: bootstrap over {report.drawn}, {told['resamples']} "
        "resamples"
        if told["groups"] > 1
        else "one patient, slide, case or image only: there are no intervals"
    )
    subtitle = f"{report.n_images} images · {drawn}"
    body = [
        f"<h1>{escape(report.model)} on {escape(report.dataset)}, {escape(report.split)}</h1>",
        f'<p class="faint">{escape(subtitle)}</p>',
        _headline_tables(report, headlines),
        _counted(report),
    ]
    if 1 < told["groups"] < 10:
        few = (
            f"There are only {told['groups']} groups: the intervals are rough, and too narrow "
            "more often than not."
        )
        body.append(f'<p class="faint">{escape(few)}</p>')
    if plots:
        shown = "".join(
            f'<figure><figcaption>{escape(title)}</figcaption><img class="plot" '
            f'alt="{escape(title)}" src="{_data("image/png", png)}"></figure>'
            for title, png in plots.values()
        )
        body.append(f'<h2>Plots</h2><div class="plots">{shown}</div>')
    if pictures:
        body.append(_gallery(pictures))
    body.append(_as_published(report))
    body.append(_provenance(report))
    if remark:
        body.append(f'<p class="faint">{escape(remark)}</p>')
    title = escape(f"{report.model} on {report.dataset}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        f"{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def images_csv(
    scores: Sequence[Any], headlines: Mapping[str, Headline]
) -> str:  # fmt: skip
    """One line an image: name, patient, and every figure of that image by itself."""
    columns = {
        k: h.per_image() for k, h in headlines.items() if h.of_one and not k.endswith("_per_image")
    }
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("image", "group", *columns))
    for i, score in enumerate(scores):
        values = (v[i] for v in columns.values())
        told = ("" if math.isnan(v) else f"{v:.6g}" for v in values)
        writer.writerow((score.name, score.group, *told))
    return buffer.getvalue()


def write_text(path: Path, text: str) -> None:
    """Whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def jpeg(picture: GalleryPicture) -> bytes:
    """The picture as it is shown."""
    buffer = io.BytesIO()
    picture.picture.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()


def _headline_tables(report: Report, headlines: Mapping[str, Headline]) -> str:
    """A table by way of averaging, one of the classes."""
    bounds = report.metrics["intervals"]["figures"]
    parts = []
    # The mean over a single class is that class.
    once = {id(h): k for k, h in reversed(list(headlines.items())) if ": " not in k}
    shown = {k: h for k, h in headlines.items() if k in once.values()}
    for averaging in dict.fromkeys(h.averaging for h in shown.values()):
        rows = [
            (escape(h.title), _value(h.value), _interval(bounds.get(k)))
            for k, h in shown.items()
            if h.averaging == averaging
        ]
        parts.append(f"<h2>{escape(averaging)}</h2>" + _table(("", "", "interval"), rows))
    per_class = report.metrics.get("per_class", {})
    if len(per_class) > 1:
        heads = ("class", "Dice", "interval", "IoU", "precision", "recall", "labelled pixels")
        classes = [
            (
                escape(name), _value(c["dice"]), _interval(bounds.get(f"{name}: dice")),
                _value(c["iou"]), _value(c["precision"]), _value(c["recall"]), f"{c['pixels']:,}",
            )
            for name, c in per_class.items()
        ]  # fmt: skip
        parts.append("<h2>classes, pooled</h2>" + _table(heads, classes))
    return "".join(parts)


def _counted(report: Report) -> str:
    """How many objects there were, and how long it took."""
    rows = [
        (title, f"{value:,}" if isinstance(value, int) else _value(value))
        for key, title in COUNTED.items()
        if (value := report.metrics.get(key)) is not None
    ]
    return "<h2>counted and timed</h2>" + _table(("", ""), rows) if rows else ""


def _gallery(pictures: Sequence[GalleryPicture]) -> str:
    shown = "".join(
        f'<figure><img alt="{escape(p.name)}" src="{_data("image/jpeg", jpeg(p))}"><figcaption>'
        f"<b>{escape(p.name)}</b> ({escape(p.group)}): {escape(p.title)} {_value(p.score)}"
        "</figcaption></figure>"
        for p in pictures
    )
    legend = "".join(
        f'<span class="chip" style="background: {color}"></span>{escape(name)} '
        for name, color in pictures[0].legend.items()
    )
    on_the_left = ", its labels outlined in the colours of their classes" if legend else ""
    return (
        f'<h2>Worst first</h2><p class="faint">Left the image{on_the_left}, right what was found, '
        f"in colour. White lines: as labelled.</p><p>{legend}</p>"
        f'<div class="gallery">{shown}</div>'
    )


def _as_published(report: Report) -> str:
    figures = report.metrics.get("as_published")
    if not figures:
        return ""
    rows = [(f"<code>{escape(k)}</code>", _value(v)) for k, v in figures.items()]
    return (
        "<h2>As some papers computed them</h2><p class='faint'>The same answers, scored as in the "
        "code released with those papers, to be set beside their tables and nothing else: "
        "<code>pathsam tables</code> says what each really measures.</p>" + _table(("", ""), rows)
    )


def _provenance(report: Report) -> str:
    settings = {k: v for k, v in report.settings.items() if v not in (None, {}, [])}
    rows = [(escape(k), f"<code>{escape(str(v))}</code>") for k, v in settings.items()]
    versions = ", ".join(f"{k} {v}" for k, v in report.versions.items())
    rows.append(("versions", escape(versions)))
    return "<h2>How it was measured</h2>" + _table(("", ""), rows, numbers=False)


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True
) -> str:  # fmt: skip
    kinds = ["", *(' class="n"' if numbers else "" for _ in heads[1:])]
    top = "".join(f"<th{k}>{h}</th>" for k, h in zip(kinds, heads, strict=True))
    lines = (
        "<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{top}</tr>' if any(heads) else ''}{''.join(lines)}</table>"


def _value(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _interval(bounds: Sequence[float | None] | None) -> str:
    if bounds is None or any(b is None or math.isnan(b) for b in bounds):
        return "–"
    return f"{_value(bounds[0])} to {_value(bounds[1])}"


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
