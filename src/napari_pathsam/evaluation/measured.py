"""What was measured here, beside the papers' tables: packaged rows, and rows of anybody's runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from napari_pathsam.core.errors import BadFileError
from napari_pathsam.evaluation.report import Report

COLUMNS = ("table", "dataset", "model", "metric", "value", "low", "high", "command")
DATASETS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "ebhi-seg": (("path-sam2", "EBHI", ""),),
    "crag": (("path-sam2", "CRAG", ""), ("sam-path", "CRAG", "")),
    "glas": (
        ("path-sam2", "GlaS", "testA"),
        ("glas-challenge", "GlaS part A", "testA"),
        ("glas-challenge", "GlaS part B", "testB"),
    ),
    "bcss": (("sam-path", "BCSS", ""),),
    "cryonuseg": (("eunet3plus", "CryoNuSeg", ""),),
    "nuinsseg": (("eunet3plus", "NuInsSeg", ""),),
    "conic": (("eunet3plus", "CoNIC", ""),),
    "camelyon16": (("wsi-sam", "CAMELYON16", ""),),
}
"""Tables and data sets in them, by our name of the data set; and the split that belongs there."""
METRICS: Mapping[str, tuple[str, ...]] = {
    "glas-challenge": ("object_f1", "object_dice", "object_hausdorff"),
    "wsi-sam": ("iou_box",),
}
PIXEL_METRICS = ("dice", "iou", "precision", "recall")


@dataclass(frozen=True)
class MeasuredRow:
    """One of our models on one data set: value, low, high by metric; empty: not measured."""

    table: str
    dataset: str
    model: str
    command: str
    figures: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def measured_rows(table: str) -> list[MeasuredRow]:
    """The packaged rows of one paper's table."""
    text = files("napari_pathsam.evaluation").joinpath("published/measured.csv").read_text("utf-8")
    found: dict[tuple[str, str, str, str], dict[str, tuple[float, float, float]]] = {}
    for line in csv.DictReader(text.splitlines()):
        if line["table"] != table:
            continue
        key = line["table"], line["dataset"], line["model"], line["command"]
        figures = found.setdefault(key, {})
        if line["value"]:
            value, low, high = (float(line[k] or "nan") for k in ("value", "low", "high"))
            figures[line["metric"]] = (value, low, high)
    return [MeasuredRow(*key, figures) for key, figures in found.items()]


def rows_of_report(path: Path, table: str) -> list[MeasuredRow]:
    """The rows that a report of ``pathsam evaluate --json`` (or its folder) has for this table.

    Raises
    ------
    BadFileError
        It is no report, or of a data set or split that is not in the table.
    """
    report = read_report(path)
    wanted = METRICS.get(table, PIXEL_METRICS)
    places = [
        dataset
        for name, dataset, split in DATASETS.get(report.dataset, ())
        if name == table and split in ("", report.split)
    ]
    figures = {m: v for m in wanted if (v := _figure(report, m)) is not None}
    if not places or not figures:
        raise BadFileError(
            f"{path} is of {report.dataset}, {report.split} ({report.task}), and the table of "
            f"{table} has no place for that. It wants {', '.join(wanted)} of "
            f"{', '.join(n for n, found in DATASETS.items() if any(t[0] == table for t in found))}."
        )
    command = str(report.settings.get("command", ""))
    return [MeasuredRow(table, place, report.model, command, figures) for place in places]


def read_report(path: Path) -> Report:
    """A report from its file, or from the folder of a run; BadFileError says what is wrong."""
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BadFileError(
            f"{file} does not exist. Give a file that `pathsam evaluate --json` wrote, or the "
            "folder of --out after it has finished."
        ) from error
    except ValueError as error:  # not JSON, not text, or not a report
        raise BadFileError(
            f"{file} is no report of `pathsam evaluate`: {' '.join(str(error).split())[:200]}"
        ) from error


def write_rows(rows: Iterable[MeasuredRow], path: Path) -> None:
    """Rows as a CSV with the columns of the packaged one."""
    from napari_pathsam.io._files import replacing

    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            start = (row.table, row.dataset, row.model)
            for metric, values in row.figures.items():
                told = ("" if math.isnan(v) else f"{v:.4f}" for v in values)
                writer.writerow((*start, metric, *told, row.command))
            if not row.figures:
                writer.writerow((*start, "", "", "", "", row.command))


def _figure(report: Report, metric: str) -> tuple[float, float, float] | None:
    value = report.metrics.get(metric)
    if value is None:  # JSON has no infinity
        lone = report.metrics.get("objects", {}).get("lone", 0)
        if not (lone and metric == "object_hausdorff"):
            return None
        value = math.inf  # objects in images where there is none to measure the distance to
    bounds = report.metrics.get("intervals", {}).get("figures", {}).get(metric, (None, None))
    unknown = math.inf if math.isinf(value) else math.nan
    low, high = (unknown if v is None else float(v) for v in bounds)
    return float(value), low, high
