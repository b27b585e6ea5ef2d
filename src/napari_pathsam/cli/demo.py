"""``pathsam demo``: the main job on the packaged samples; no network, no screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_pathsam.cli.console import OUT, DeviceOption, ModelOption, load_promptable, progress

if TYPE_CHECKING:
    from napari_pathsam.evaluation.demo import DemoResult


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="The folder to write to; it is made when missing.")
    ] = Path("pathsam-demo"),
    model: ModelOption = "pathsam-nano",
    device: DeviceOption = "auto",
) -> None:
    """Click and box objects on the packaged samples; write pictures, labels and a report.

    Nothing is downloaded, and no screen is needed.
    """
    from napari_pathsam.evaluation.demo import demo_report, run_demo
    from napari_pathsam.samples import list_samples

    out.mkdir(parents=True, exist_ok=True)
    infos = list_samples()
    results = []
    with progress("Clicking and boxing", len(infos)) as bar:
        for result in run_demo(load_promptable(model, device), infos):
            _write(out, result)
            results.append(result)
            bar.update(bar.task_ids[0], completed=len(results))
    demo_report(model, results).write(out / "report.json")
    for result in results:
        OUT.print(f"{out / result.files['overlay']}  {result.summary}")
    OUT.print(f"Labels (.png), QuPath objects (.geojson) and report.json are in {out}")


def _write(out: Path, result: DemoResult) -> None:
    from napari_pathsam.io._files import replacing
    from napari_pathsam.io.annotations import write_geojson
    from napari_pathsam.io.images import write_labels

    with replacing(out / result.files["overlay"]) as path:
        result.poster.save(path, format="PNG")
    write_labels(out / result.files["labels"], result.instances, result.classes)
    write_geojson(
        out / result.files["geojson"],
        result.instances,
        class_of=result.class_of,
        classes=result.classes,
        mpp=result.mpp,
    )
