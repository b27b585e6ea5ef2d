"""“Copy as” of a training: what was run, as Python and as a command."""

from __future__ import annotations

from pathlib import Path

from napari_pathsam.workspace.scripting import quoted


def train_python(run: Path, model: str) -> str:
    """Python that trains a version again, from the file that says what it was trained on."""
    return "\n".join(
        [
            "from napari_pathsam.training.finetune import Teacher",
            "from napari_pathsam.training.finetune_file import read_run, save_taught",
            "",
            f"frozen, _ = read_run({str(run)!r})",
            "teacher = Teacher(frozen)",
            "for report in teacher.steps():",
            "    if report.scores is not None:",
            "        print(report.epoch, report.scores.mean_dice)",
            f"save_taught({f'{model}.safetensors'!r}, teacher.result())",
            "",
        ]
    )


def train_command(run: Path, model: str) -> str:
    """A command that trains a version again."""
    words = ["pathsam", "train", "--run", str(run), "--out", f"{model}.safetensors"]
    return quoted(words) + "\n"
