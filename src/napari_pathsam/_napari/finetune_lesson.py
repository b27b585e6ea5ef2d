"""What the Fine-tune dock shows of a lesson: its trainings, versions, previews and images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_pathsam._napari.finetune_how import FRESH
from napari_pathsam._napari.finetune_labels import labels_over
from napari_pathsam._napari.finetune_pairs import PairRow
from napari_pathsam._napari.segment_heads import HeadChoice
from napari_pathsam._napari.torch_import import load_torch
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.workspace.teaching_choices import file_stem
from napari_pathsam.workspace.teaching_lesson import Lesson
from napari_pathsam.workspace.teaching_pairs import FilePair
from napari_pathsam.workspace.teaching_script import train_command, train_python
from napari_pathsam.workspace.teaching_work import Finished, Looked, Preview

if TYPE_CHECKING:
    from napari_pathsam._napari.finetune import FineTuneDock
    from napari_pathsam.training.finetune_report import Scores

CALM_MS = 1500
"""Nobody waits for an estimate; a person who goes on painting should not share the machine."""
KEPT_NAME = "PathSAM training labels (from the preview)"


class LessonShown(QObject):
    """Connects a dock's lists, curves and preview with its teaching."""

    def __init__(self, dock: FineTuneDock) -> None:
        super().__init__(dock)
        self._dock = dock
        self._heads: tuple[HeadChoice, ...] = ()
        self._preset = ""
        self._current: int | None = None  # the version in use, as it was last told
        self._wanted: int | None = None  # the version whose preview is to be shown when it comes
        self._scores: dict[int, Scores | None] = {}
        self._measured: Any = None  # what the estimates on screen are of
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CALM_MS)
        self._timer.timeout.connect(self._estimate)
        view = dock.view
        view.restore_bar.add("Start afresh", "Set the saved work aside",
                             dock.teaching.discard_saved)  # fmt: skip
        view.restore_bar.add("Restore", "Bring strokes and versions back", dock.teaching.restore)
        view.resume_bar.add("Forget it", "Its last state is removed", dock.run.forget_interrupted)
        view.resume_bar.add("Resume", "Go on from its last epoch", dock.run.resume)
        view.pairs.used_changed.connect(dock.teaching.use)
        view.pairs.removed.connect(dock.teaching.remove_file)
        view.look.shown_changed.connect(dock.preview.set_shown)
        view.look.split_changed.connect(dock.preview.set_split)
        view.look.before_changed.connect(self._on_before)
        view.look.here_wanted.connect(self.show_field)
        view.look.copy_wanted.connect(self.keep_preview)
        view.versions.chosen.connect(self._show_scores)
        view.versions.revert_wanted.connect(self.revert)
        view.versions.described.connect(self._describe)
        view.versions.delete_wanted.connect(self.delete)
        view.versions.save_wanted.connect(self.save)
        view.versions.load_wanted.connect(dock.teaching.load)
        view.versions.segment_wanted.connect(self.use_for_segment)
        view.copy_button.said.connect(dock.say)
        view.copy_button.python = partial(self._copied, train_python)
        view.copy_button.command = partial(self._copied, train_command)
        for signal, slot in self._signals():
            signal.connect(slot)

    def _signals(self) -> tuple[tuple[Any, Any], ...]:
        t, run, look = self._dock.teaching, self._dock.run, self._dock.look
        view = self._dock.view
        return (
            (t.pairs_changed, self._show_pairs),
            (t.lesson_changed, self._on_lesson),
            (t.offered, self._on_offered),
            (run.began, self._on_began),
            (run.dropped, self._show_current),
            (run.progress_changed, view.train.show_progress),
            (run.told, self._on_told),
            (run.previewed, self._show),
            (run.finished, self._on_finished),
            (run.looked, self._on_new),
            (run.estimated, self._on_estimated),
            (run.numbers_known, view.how.advanced.set_preset),
            (t.counts_changed, self._on_counts),
            (t.choices_changed, self._on_choices),
            (look.previewed, self._on_looked),
        )

    # --- a training ---

    def _on_began(self) -> None:
        view = self._dock.view
        view.results.begin()
        view.sections["results"].open()
        self._dock.say("")

    def _on_told(self, reports: tuple[Any, ...]) -> None:
        results = self._dock.view.results
        for report in reports:
            results.add(report)
        scored = next((r.scores for r in reversed(reports) if r.scores is not None), None)
        if scored is not None:
            results.show_scores(scored, self._colors(), f"Epoch {reports[-1].epoch}")

    def _on_finished(self, found: Finished) -> None:
        dock, number = self._dock, found.version.number
        self._scores[number] = found.scores
        dock.view.results.curves_of = number
        self._show_scores(number)
        dock.view.versions.select(number)

    def _on_new(self, found: Looked) -> None:
        self._dock.answers.set_worst(found.worst, found.keys)

    # --- what it would take ---

    def _on_counts(self, counts: tuple[Any, ...]) -> None:
        if sum(1 for c in counts if c.n_px) > 1:
            self._timer.start()

    def _on_choices(self, choices: Any) -> None:
        if choices.preset != self._preset:
            self._preset = choices.preset
            self._dock.run.ask_numbers()
        if self._measured is not None and self._measured != self._dock.run.estimated_for:
            self._timer.start()

    def _estimate(self) -> None:
        """Measure once, and again where it would be another number."""
        wanted = self._dock.run.estimated_for
        if wanted != self._measured and not self._dock.run.running:
            self._measured = wanted
            self._dock.run.estimate()

    def _on_estimated(self, found: dict[str, Any]) -> None:
        if not found:
            self._measured = None
        self._dock.view.how.show_estimates(found)

    # --- previews ---

    def _show(self, preview: Preview) -> None:
        """Show a field as it is now."""
        dock = self._dock
        source, image = dock.source, dock.image
        if source is None or image is None or preview.field.source.key != source.key:
            return
        lesson = dock.teaching.lesson
        if preview.number in lesson:
            dock.look.keep(preview)
            if preview.number != lesson.current:  # the person went back to another meanwhile
                return
        self._wanted = None
        before = self._before(preview)
        dock.preview.show(preview, before, image, source.plane, dock.teaching.choices.classes)

    def _on_looked(self, preview: Preview) -> None:
        """A version was asked for: to be shown, or to be compared with."""
        if preview.number == self._wanted:
            self._show(preview)
        elif preview.number == self._dock.view.look.before.value():
            self._dock.preview.set_before(preview)

    def _before(self, preview: Preview) -> Preview | None:
        number = self._dock.view.look.before.value()
        if number is None or number == preview.number:
            return None
        return self._dock.look.preview(number, preview.field)

    def show_field(self) -> None:
        """Show the version in use on what is in view."""
        dock = self._dock
        number, field_now = dock.current_number(), dock.field_in_view()
        if number is None or field_now is None:
            return
        self._wanted = number
        found = dock.look.preview(number, field_now)
        if found is not None:
            self._show(found)

    def _on_before(self, number: Any) -> None:
        now = self._dock.preview.now
        if number is None or now is None:
            self._dock.preview.set_before(None)
            return
        found = self._dock.look.preview(number, now.field)
        if found is not None:
            self._dock.preview.set_before(found)

    def swipe(self) -> None:
        """All the way to before, or back to now."""
        look = self._dock.view.look
        if look.before.value() is None and look.before.count() > 1:
            look.before.setCurrentIndex(look.before.count() - 1)
        look.set_split(0.0 if look.split() > 0.5 else 1.0)

    def keep_preview(self) -> None:
        """What is shown, as labels of the person's own: to correct, and to train on."""
        dock, shown = self._dock, self._dock.preview
        labels = shown.class_map()
        if labels is None or shown.now is None or dock.image is None or dock.source is None:
            dock.say("There is no preview yet: train first.")
            return
        from napari.layers import Labels

        layer = labels_over(
            labels.copy(), shown.now.field.region, dock.image, dock.source.plane,
            dock.teaching.choices.classes, Labels, KEPT_NAME,
        )  # fmt: skip
        dock.viewer.layers.append(layer)
        dock.say(f"“{layer.name}” is yours: paint in it, save it, or choose it as Labels above.")

    # --- versions ---

    def _on_lesson(self, lesson: Lesson) -> None:
        dock = self._dock
        dock.view.versions.set_value(lesson)
        versions = {v.number: f"version {v.number} · {v.name}" for v in lesson.versions}
        before = dock.view.look.before.value()
        if before not in versions:
            others = [n for n in versions if n != lesson.current]
            before = others[-1] if others else None
        dock.view.look.set_versions(versions, before)
        self._show_starts(lesson)
        if lesson.current != self._current:
            self._show_current()  # its row is the one that is selected now
        self._current = lesson.current
        running = lesson.running
        waiting = running is not None and not dock.run.running
        dock.view.resume_bar.say(
            f"A training was interrupted on {running.began:%d %B at %H:%M}. It can go on from its "
            "last epoch." if waiting and running is not None else ""
        )  # fmt: skip

    def revert(self, number: int) -> None:
        """Use a version again."""
        dock = self._dock
        before = dock.current_number()
        dock.teaching.revert(number)
        dock.view.look.set_versions(
            {v.number: f"version {v.number} · {v.name}" for v in dock.teaching.lesson.versions},
            before,
        )
        self.show_field()
        dock.say(f"Version {number} is in use again.")

    def delete(self, number: int) -> None:
        """Remove a version; the one in use then is shown."""
        dock, was = self._dock, self._dock.current_number()
        dock.look.forget(number)
        self._scores.pop(number, None)  # the number may be given again
        dock.teaching.delete(number)
        self._show_current()
        if was == number:
            self.show_field() if dock.current_number() is not None else dock.preview.clear()

    def save(self, number: int, path: Path) -> None:
        """Write a version as a model file."""
        self._dock.teaching.save_as(number, path, self._on_saved)

    def _on_saved(self, path: Path) -> None:
        self._dock.keep_head(path)
        self._dock.say(f"Written: {path}. The Segment dock lists it, too.")

    def use_for_segment(self, number: int) -> None:
        """Open the Segment dock with a version."""
        dock = self._dock
        name = f"{file_stem(dock.teaching.lesson[number].name)} {number}.safetensors"
        path = dock.teaching.folder.path / name
        dock.teaching.save_as(number, path, self._segment_with)

    def _segment_with(self, path: Path) -> None:
        from napari_pathsam._napari.segment_command import dock_of

        dock = self._dock
        dock.keep_head(path)
        segment = dock_of(dock.viewer)
        if dock.image is not None:
            segment.open_image(dock.image)
        segment.view.heads.file_chosen.emit(str(path))
        dock.view.look.make_room()  # else it lies over what will be segmented
        segment.show_in_front()

    def _describe(self, number: int, name: Any, note: Any) -> None:
        # Later: the table is in the middle of taking the text.
        QTimer.singleShot(0, lambda: self._dock.teaching.describe(number, name=name, note=note))

    # --- scores ---

    def _show_current(self) -> None:
        """The scores of the version in use; without one nothing is scored."""
        dock, number = self._dock, self._dock.current_number()
        if number is not None:
            dock.view.versions.select(number)
            self._show_scores(number)
        elif not dock.run.running:
            dock.view.results.begin()

    def _show_scores(self, number: int) -> None:
        dock = self._dock
        if number not in dock.teaching.lesson:
            return
        version = dock.teaching.lesson[number]
        if number not in self._scores and version.scores is not None:
            dock.files.submit(_scores_of, version.scores, then=partial(self._on_scores, number))
            return
        dock.view.results.show_version(version, self._scores.get(number), self._colors())

    def _on_scores(self, number: int, scores: Scores) -> None:
        self._scores[number] = scores
        self._show_scores(number)

    def _colors(self) -> dict[str, str]:
        return {c.name: c.color for c in self._dock.teaching.choices.classes}

    # --- what to start from ---

    def set_heads(self, heads: tuple[HeadChoice, ...]) -> None:
        """Models whose class prompts can be the start."""
        self._heads = heads
        self._show_starts(self._dock.teaching.lesson)

    def _show_starts(self, lesson: Lesson) -> None:
        folder = self._dock.teaching.folder.path
        starts: dict[Any, str] = {None: FRESH}
        starts |= {str(folder / v.file): f"version {v.number} · {v.name}" for v in lesson.versions}
        starts |= {h.name: h.line for h in self._heads}
        self._dock.view.how.start.set_values(starts)
        self._dock.view.how.start.set_value(self._dock.teaching.choices.start)

    # --- images and saved work ---

    def _show_pairs(self) -> None:
        teaching = self._dock.teaching
        rows = []
        for pair in teaching.pairs:
            is_file = isinstance(pair, FilePair)
            rows.append(
                PairRow(pair.key, pair.name, pair.labels_name, teaching.is_used(pair.key), is_file)
            )
        self._dock.view.pairs.set_value(rows)
        self._dock.view.sections["pairs"].retitle(f"Images ({len(teaching.used)})")

    def _on_offered(self, lesson: Lesson | None) -> None:
        self._dock.view.restore_bar.say("" if lesson is None else lesson.on_offer())

    def _copied(self, text_of: Any) -> str:
        dock = self._dock
        number = dock.view.versions.value() or dock.current_number()
        if number is None:
            raise UnavailableError("There is nothing to copy yet: train first.")
        run = dock.teaching.run_path(number)
        if run is None:
            raise UnavailableError(f"Version {number} was loaded: it was not trained here.")
        return str(text_of(run, dock.teaching.choices.model_name))


def _scores_of(found: dict[str, Any]) -> Scores:
    load_torch()
    from napari_pathsam.training.finetune_report import Scores

    return Scores.from_json(found)
