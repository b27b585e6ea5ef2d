"""The scores of the Browse dock, as Python and as a command that measure them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_pathsam.workspace.browsing_work import MOST_CLICKS, Task
from napari_pathsam.workspace.scripting import quoted


@dataclass(frozen=True)
class Measured:
    """Which model is measured on what; ``mpp`` is the pixel size that a person typed."""

    model: str
    device: str
    task: Task
    dataset: str
    root: Path
    split: str
    target: str | None
    mpp: float | None


def evaluate_python(what: Measured) -> str:
    """Python that measures a model on all images of what is browsed."""
    clicks = what.task == "prompts"
    target = "" if what.target is None else f", {what.target!r}"
    lines = [
        "from pathlib import Path",
        "",
        "import napari_pathsam as ps",
        "from napari_pathsam.datasets import dataset",
        *(["from napari_pathsam.datasets.base import overriding"] if what.mpp else []),
        *(["from napari_pathsam.evaluation.prompting import PromptSettings"] if clicks else []),
        "",
        f"root = Path({str(what.root.absolute())!r})",
        f"data = dataset({what.dataset!r}{target}, root=root)",
        f"samples = data.samples(root, {what.split!r})",
        *([f"samples = overriding(samples, mpp={what.mpp!r})"] if what.mpp else []),
        f"model = ps.load_model({what.model!r}, device={what.device!r})",
    ]
    if clicks:
        lines += [
            f"settings = PromptSettings(most_clicks={MOST_CLICKS})",
            "report = ps.evaluate(model, samples, settings)",
        ]
    else:
        lines += [
            "classes = ps.ClassTable.of(*data.classes)",
            "report = ps.evaluate(model, samples, classes=classes)",
        ]
    return "\n".join([*lines, "print(report.to_json())"]) + "\n"


def evaluate_command(what: Measured) -> str:
    """A command that measures a model on all images of what is browsed."""
    words = ["pathsam", "evaluate", "--dataset", what.dataset, "--root", str(what.root.absolute())]
    words += ["--split", what.split, "--model", what.model, "--task", what.task]
    if what.target is not None:
        words += ["--target", what.target]
    if what.mpp is not None:
        words += ["--mpp", f"{what.mpp!r}"]
    if what.task == "prompts":
        words += ["--most-clicks", str(MOST_CLICKS)]
    if what.device != "auto":
        words += ["--device", what.device]
    return quoted([*words, "--json", f"{what.dataset}-{what.split.replace(',', '-')}.json"]) + "\n"
