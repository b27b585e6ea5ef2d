"""Measuring with progress, into a folder or not: what ``evaluate`` and ``compare`` share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_pathsam.cli.console import ERR, progress

if TYPE_CHECKING:
    from napari_pathsam.core.classes import ClassTable
    from napari_pathsam.datasets import Sample
    from napari_pathsam.evaluation.evaluate import Settings
    from napari_pathsam.evaluation.report import Report
    from napari_pathsam.evaluation.runs import Run, RunCard
    from napari_pathsam.models.catalogue import Model


def given_command(context: typer.Context) -> str:
    """What was typed, for the report."""
    arguments = context.find_root().obj or ()
    return shlex.join(["pathsam", *map(str, arguments)])


def card_of(
    loaded: Model,
    name: str,
    samples: Sequence[Sample],
    settings: Settings,
    data: dict[str, str],
    told: dict[str, Any],
) -> RunCard:
    """What a run is made with."""
    from napari_pathsam.evaluation.evaluate import task_of
    from napari_pathsam.evaluation.report import versions
    from napari_pathsam.evaluation.runs import RunCard, images_sha256

    return RunCard(
        model=name,
        weights_sha256=weights_of(loaded, name),
        **data,
        task=task_of(settings),
        n_images=len(samples),
        images=images_sha256(samples),
        settings=settings.model_dump(mode="json") | told,
        versions=versions(),
    )


def weights_of(loaded: Model, name: str) -> dict[str, str]:
    """SHA-256 by name: of the model, and of what it stands on where that is in the catalogue."""
    from napari_pathsam.core.errors import PathsamError
    from napari_pathsam.models.catalogue import weights_sha256

    found = {}
    for part in (name, *((base.name,) if (base := getattr(loaded, "base", None)) else ())):
        try:
            found[part] = weights_sha256(part)
        except PathsamError:  # what it stands on has no file here: its own file holds it
            continue
    return found


def measure(
    loaded: Model,
    samples: Sequence[Sample],
    settings: Settings,
    *,
    classes: ClassTable | None,
    what: str,
    run: Run | None = None,
) -> list[Any]:
    """The scores of all samples, with a bar; those a run has already are not made again."""
    from napari_pathsam.evaluation.evaluate import scoring

    left = samples if run is None else run.left(samples)
    with progress(what, len(samples)) as bar:
        bar.update(bar.task_ids[0], completed=len(samples) - len(left))
        scores: list[Any] = []
        fresh = scoring(loaded, left, settings, classes=classes)
        try:
            for score in fresh if run is None else run.keep(fresh):
                scores.append(score)
                bar.update(bar.task_ids[0], completed=len(samples) - len(left) + len(scores))
        except KeyboardInterrupt:
            if run is not None:
                ERR.print(
                    f"{len(run.scores)} of {len(samples)} images are in {run.folder}; the same "
                    "command with --resume goes on.",
                    markup=False,
                )
            raise
    if run is None:
        return scores
    order = {s.name: i for i, s in enumerate(samples)}
    return sorted(run.scores, key=lambda s: order[s.name])


def write_folder(
    out: Path,
    report: Report,
    loaded: Model,
    samples: Sequence[Sample],
    scores: Sequence[Any],
    settings: Settings,
    *,
    classes: ClassTable | None,
    shown: int,
) -> None:
    """``report.json``, ``images.csv``, ``overlays/``, ``plots/`` and ``report.html``."""
    from napari_pathsam.core.errors import UnavailableError
    from napari_pathsam.evaluation.evaluate import gallery_of, headlines_of
    from napari_pathsam.evaluation.html_report import html_report, images_csv, jpeg, write_text
    from napari_pathsam.evaluation.plots import plots_of
    from napari_pathsam.evaluation.runs import REPORT

    headlines = headlines_of(settings, scores)
    report.write(out / REPORT)
    write_text(out / "images.csv", images_csv(scores, headlines))
    remark = ""
    try:
        plots = plots_of(report, scores)
    except UnavailableError as error:
        plots, remark = {}, str(error)
        ERR.print(remark, markup=False)
    for name, (_, png) in plots.items():
        _write_bytes(out / "plots" / f"{name}.png", png)
    for old in (out / "overlays").glob("*.jpg"):  # of a report that was made before
        old.unlink()
    pictures = []
    shown = min(shown, len(samples))
    with progress("pictures of the worst", shown) as bar:
        for picture in gallery_of(
            loaded, samples, scores, headlines, settings, classes=classes, shown=shown
        ):
            pictures.append(picture)
            name = f"{len(pictures):02d}_{_plain(picture.name)}.jpg"
            _write_bytes(out / "overlays" / name, jpeg(picture))
            bar.advance(bar.task_ids[0])
    write_text(out / "report.html", html_report(report, headlines, plots, pictures, remark=remark))


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
