"""``pathsam tables``: a paper's figures, what they really are, and what was measured here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from napari_pathsam.cli.console import OUT

if TYPE_CHECKING:
    from napari_pathsam.evaluation.measured import MeasuredRow
    from napari_pathsam.evaluation.published_tables import PublishedTable

IMPLIED = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "iou": "IoU"}


def tables(
    name: Annotated[
        str, typer.Argument(help="path-sam2, sam-path, wsi-sam, eunet3plus or glas-challenge.")
    ],
    run: Annotated[
        list[Path] | None,
        typer.Option("--run", help="A report of `pathsam evaluate` to put beside it; repeatable."),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write the measured rows to this file, intervals and all."),
    ] = None,
) -> None:
    """A paper's published table, what its figures really measure, and our measured rows."""
    from napari_pathsam.evaluation.measured import measured_rows, rows_of_report, write_rows
    from napari_pathsam.evaluation.published_tables import published_table

    table = published_table(name)
    given = [row for path in run or () for row in rows_of_report(path, name)]
    named = {(row.dataset, row.model) for row in given}
    ours = [r for r in measured_rows(name) if (r.dataset, r.model) not in named] + given
    if csv is not None:
        write_rows(ours, csv)
    OUT.print(f"{table.title}: {table.citation}")
    if name == "glas-challenge":
        for part in ("GlaS part A", "GlaS part B"):
            OUT.print(_ranking(table, ours, part))
    else:
        OUT.print(_published(table))
        OUT.print(_measured(ours))
    for number, command in enumerate(_commands(ours), start=1):
        OUT.print(escape(f"[{number}] {command}"), soft_wrap=True)
    OUT.print(table.note)


def _published(table: PublishedTable) -> Table:
    """The paper's rows with what each figure is, and what follows from it."""
    rows = [(row, table.read(row)) for row in table.rows()]
    keys = [k for k in IMPLIED if any(k in _bare(r.implied) for _, r in rows)]
    drawn = _empty("as published, and what follows", ("data set", "model"))
    for heading in (*table.columns.values(), "is", *(IMPLIED[k] for k in keys)):
        drawn.add_column(heading, justify="right", no_wrap=True)
    whats = list(dict.fromkeys(reading.what for _, reading in rows))
    before = None
    for row, reading in rows:
        if row.table != before:
            drawn.add_section()
            drawn.add_row(f"[dim]{escape(row.table)}[/dim]")
            before = row.table
        drawn.add_row(
            row.dataset,
            row.model,
            *(_number(row.figures.get(m), m) for m in table.columns),
            _letter(whats.index(reading.what)),
            *(_implied(reading.implied, k) for k in keys),
        )
    _explain(drawn, whats)
    return drawn


def _measured(ours: Sequence[MeasuredRow]) -> Table:
    """Our rows: values with intervals, and the number of the command that measures them."""
    metrics = list(dict.fromkeys(m for row in ours for m in row.figures))
    drawn = _empty("measured here", ("data set", "model", *(metrics or ["figures"]), "command"))
    for row in ours:
        cells = [_with_interval(row, m) for m in metrics] or [""]
        if not row.figures:
            cells[0] = "not measured"
        drawn.add_row(row.dataset, row.model, *cells, _number_of(row, ours))
    drawn.caption = "in brackets: 95 % of the bootstrap over patients"
    drawn.caption_justify = "left"
    return drawn


def _ranking(table: PublishedTable, ours: Sequence[MeasuredRow], part: str) -> Table:
    """One part of the challenge by rank sum, with our rows; what cannot be ranked comes last."""
    from napari_pathsam.evaluation.published_tables import glas_ranks

    published = sorted(
        (row for row in table.rows() if row.dataset == part),
        key=lambda r: bool(table.read(r).implied),
    )
    theirs = {r.model: r.figures for r in published if not table.read(r).implied}
    here = {f"{r.model} (here)": r for r in ours if r.dataset == part}
    values = {name: {m: v[0] for m, v in row.figures.items()} for name, row in here.items()}
    ranks = glas_ranks(theirs | values)
    drawn = _empty(
        f"{part}, by rank sum", ("", *table.columns.values(), "rank sum", "is", "command")
    )
    whats = list(dict.fromkeys(table.read(row).what for row in published))
    for name in sorted(ranks, key=lambda n: ranks[n]):
        row = here.get(name)
        cells = (
            [_number(theirs[name][m], m) for m in table.columns]
            if row is None
            else [_with_interval(row, m) for m in table.columns]
        )
        told = (_letter(0), "" if row is None else _number_of(row, ours))
        drawn.add_row(name, *cells, str(ranks[name]), *told, style=None if row is None else "bold")
    bounds = []
    for entry in published:
        if entry.model not in ranks:
            reading = table.read(entry)
            cells = [_number(entry.figures[m], m) for m in table.columns]
            drawn.add_row(entry.model, *cells, "–", _letter(whats.index(reading.what)), "")
            bound = {k.removeprefix("pixel "): v for k, v in reading.implied.items()}
            bounds.append(f"{entry.model} {_implied(bound, 'iou')}")
    for name, row in here.items():
        if name not in ranks:
            cells = [_with_interval(row, m) for m in table.columns]
            cells = cells if row.figures else ["not measured", *cells[1:]]
            drawn.add_row(name, *cells, "–", "", _number_of(row, ours))
    _explain(drawn, whats)
    if bounds:
        drawn.caption = f"{drawn.caption}\nPixel IoU that follows from F1: {', '.join(bounds)}."
    return drawn


def _empty(title: str, headings: Sequence[str]) -> Table:
    """A table that names models in full on a terminal of 80 columns."""
    drawn = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        wide = 19 if heading in ("model", "") else None
        drawn.add_column(heading, overflow="fold", min_width=wide)
    return drawn


def _commands(ours: Sequence[MeasuredRow]) -> list[str]:
    """Commands as they are listed below the tables: each once, in one piece, to be copied."""
    return list(dict.fromkeys(row.command for row in ours if row.command))


def _number_of(row: MeasuredRow, ours: Sequence[MeasuredRow]) -> str:
    return escape(f"[{1 + _commands(ours).index(row.command)}]") if row.command else ""


def _explain(drawn: Table, whats: Sequence[str]) -> None:
    drawn.caption = "\n".join(f"{_letter(i)}  {what}." for i, what in enumerate(whats))
    drawn.caption_justify = "left"


def _letter(index: int) -> str:
    return "abcdefghij"[index]


def _bare(implied: Iterable[str]) -> set[str]:
    return {key.removesuffix(" ≥") for key in implied}


def _implied(implied: Mapping[str, float], key: str) -> str:
    if key in implied:
        return f"{implied[key]:.3f}"
    return f"≥ {implied[f'{key} ≥']:.3f}" if f"{key} ≥" in implied else "–"


def _number(value: float | None, metric: str) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if "hausdorff" in metric else f"{value:.4f}".removesuffix("0")


def _with_interval(row: MeasuredRow, metric: str) -> str:
    if metric not in row.figures:
        return ""
    value, low, high = row.figures[metric]
    places = 1 if "hausdorff" in metric else 3
    bounds = "" if math.isnan(low) else f" [{low:.{places}f}, {high:.{places}f}]"
    return escape(f"{value:.{places}f}{bounds}".replace("inf", "∞"))
