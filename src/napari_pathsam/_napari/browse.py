"""The “PathSAM: Browse” dock: go through a data set, score a model, jump to the worst image.

Everything it does is a call of :class:`Browsing`; everything it shows comes from its signals.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout

from napari_pathsam._napari.browse_layers import BrowseLayers
from napari_pathsam._napari.browse_list import figure_text
from napari_pathsam._napari.browse_models import BrowseSupply, ClickChoice
from napari_pathsam._napari.browse_view import AS_LISTED, BY_FILES, BrowseView
from napari_pathsam._napari.docking import Dock
from napari_pathsam._napari.keys import KeyBinder, Keys
from napari_pathsam._napari.runner import QtRunner, ViewerModels
from napari_pathsam._napari.segment_heads import HeadChoice, OwnHeads
from napari_pathsam._napari.segment_layers import warm_up
from napari_pathsam.core.errors import UnavailableError
from napari_pathsam.workspace.browse_script import Measured, evaluate_command, evaluate_python
from napari_pathsam.workspace.browsing import Browsing
from napari_pathsam.workspace.browsing_work import Answered, BrowsedImage, Figure, Opened, Task
from napari_pathsam.workspace.segment_request import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.viewer import Viewer

MODELS_KEPT = 3
LIST_MS = 200
"""The list is drawn anew so often at most while images are scored."""


class BrowseDock(Dock):
    """Choose a data set; look at its images; see where a model fails.

    ``model_loader(name, device)``, ``heads``, ``own_heads`` and ``keys`` are for tests.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        *,
        model_loader: Callable[[str, str], Any] | None = None,
        heads: Sequence[HeadChoice] = (),
        own_heads: OwnHeads | None = None,
        keys: Keys | None = None,
    ) -> None:
        super().__init__()
        self.viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.runner, self.files, self._downloads = QtRunner(self), QtRunner(self), QtRunner(self)
        load = model_loader or ViewerModels(self.runner, keep=MODELS_KEPT)
        self.browsing = Browsing(load, self.runner, self.files, self.runner.checkpoint)
        self.layers = BrowseLayers(self.viewer)
        self._task: Task = "classes"  # what the person chose, whatever the model allows
        self.view = BrowseView()
        self.supply = BrowseSupply(
            self.view, self.runner, self._downloads, own_heads or OwnHeads(), self
        )
        self._busy = ""
        self._listing, self._telling = QTimer(self), QTimer(self)
        self._listing.setSingleShot(True)
        for timer in (self._listing, self._telling):
            timer.setInterval(LIST_MS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.view, 1)
        self.keys = keys or Keys()
        self._binder = KeyBinder(self.viewer, self.keys, {
            "next_image": partial(self.browsing.step, 1),
            "previous_image": partial(self.browsing.step, -1),
            "worst_image": self.browsing.go_to_worst,
        })  # fmt: skip
        self._connect()
        self._print_keys()
        self._binder.bind([])
        self._list_sets()
        self._on_opened(None)
        self.runner.submit(warm_up)
        if model_loader is None:
            QTimer.singleShot(0, self._read_heads)
        else:
            self.view.heads.set_heads(heads)

    # --- wiring ---

    def _connect(self) -> None:
        view, browsing = self.view, self.browsing
        view.source.value_changed.connect(self.open)
        view.source.set.value_changed.connect(lambda _: self._describe())
        view.split.value_changed.connect(lambda _: self._open_part())
        view.target.value_changed.connect(lambda _: self._open_part())
        view.pixel_size.value_changed.connect(browsing.use_mpp)
        view.previous_button.clicked.connect(lambda: browsing.step(-1))
        view.next_button.clicked.connect(lambda: browsing.step(1))
        view.worst_button.clicked.connect(lambda: browsing.go_to_worst())
        view.heads.value_changed.connect(self._on_head)
        view.task.value_changed.connect(self._on_task)
        view.all_button.clicked.connect(lambda: self.score_all())
        view.copy_button.said.connect(view.status.setText)
        view.copy_button.python = lambda: evaluate_python(self._measured())
        view.copy_button.command = lambda: evaluate_command(self._measured())
        view.progress.cancel_button.clicked.connect(lambda: browsing.cancel())
        view.order.value_changed.connect(browsing.use_order)
        view.list.chosen.connect(browsing.go)
        self.supply.changed.connect(self._on_head)
        self.supply.failed.connect(view.error_bar.say)
        self._listing.timeout.connect(self._show_list)
        self._telling.timeout.connect(self._tell)
        for signal, slot in self._signals():
            signal.connect(slot)

    def _signals(self) -> tuple[tuple[Any, Callable], ...]:
        b = self.browsing
        return (
            (b.opened_changed, self._on_opened),
            (b.image_changed, self._on_image),
            (b.answer_changed, self._on_answer),
            (b.scores_changed, self._on_scores),
            (b.progress_changed, self._on_progress),
            (b.busy_changed, self._on_busy),
            (b.failed, self._on_failed),
        )

    def _print_keys(self) -> None:
        printed = self.keys.shown
        self.view.previous_button.setText(f"◀  {printed('previous_image')}")
        self.view.next_button.setText(f"▶  {printed('next_image')}")
        self.view.worst_button.setToolTip(
            f"List the worst images first, and go to the first of them ({printed('worst_image')})"
        )

    def _list_sets(self) -> None:
        from napari_pathsam.datasets import DATASETS

        self.view.source.set.set_values(
            {None: BY_FILES} | {name: data.title for name, data in DATASETS.items()}
        )
        self._describe()

    def _read_heads(self) -> None:
        if not self._closed:
            self.supply.read()

    # --- what the person does ---

    def open(self) -> None:
        """Open the data set in the folder that is chosen, with its default part."""
        name, folder = self.view.source.value()
        self.view.error_bar.say("")
        if folder is None:
            self._on_failed("Choose the folder that holds the data set first.")
            return
        self.view.target.set_value(None)
        self.browsing.open(name, folder)

    def _open_part(self) -> None:
        found = self.browsing.opened
        if found is not None:
            self.view.error_bar.say("")
            self.browsing.open(
                found.data.name, found.root, self.view.split.value(), self.view.target.value()
            )

    def score_all(self) -> None:
        """Score every image; what is missing is said."""
        self.view.error_bar.say("")
        head = self.view.heads.value()
        if head is None:
            self._on_failed("Choose a model first: it is scored on every image.")
            self.view.heads.setFocus()
        elif not head.ready:
            self._on_failed(f"The weights of {head.title} are not here yet: download them first.")
        else:
            self.browsing.score_all()

    def _measured(self) -> Measured:
        if (found := self.browsing.measured) is None:
            raise UnavailableError("There is nothing to copy yet: open a data set, and choose the "
                                   "model to be scored.")  # fmt: skip
        return found

    def _on_task(self, task: Task) -> None:
        self._task = task
        self._on_head()

    def _on_head(self) -> None:
        self.view.error_bar.say("")
        self.supply.tell()
        head = self.view.heads.value()
        ready = head is not None and head.ready
        clicks_only = isinstance(head, ClickChoice)
        self.view.task.set_value("prompts" if clicks_only else self._task)
        self.view.task.setEnabled(not clicks_only)
        self.browsing.use_model(
            head.name if head is not None and ready else None,
            self.view.heads.device(),
            self.view.task.value(),
        )
        self.view.all_button.setEnabled(self.browsing.n > 0)

    # --- what it says ---

    def _describe(self) -> None:
        """Licence, layout and notes of the data set that is chosen."""
        from napari_pathsam.datasets import DATASETS

        data = DATASETS.get(self.view.source.set.value() or "")
        if data is None:
            self.view.source.info.setText("")
            self.view.source.info.hide()
            return
        url = html.escape(data.url)
        link = f" <a style='color:#3d9ae8' href='{url}'>{url}</a>" if url.startswith("http") else ""
        self.view.source.info.setText(f"{html.escape(data.licence)}.{link}")
        self.view.source.info.setToolTip(f"Its layout: {data.layout}\n\n{data.notes}")
        self.view.source.info.show()

    def _on_opened(self, found: Opened | None) -> None:
        view = self.view
        for widget in (view.split, view.previous_button, view.next_button, view.worst_button,
                       view.all_button, view.pixel_size, view.order):  # fmt: skip
            widget.setEnabled(found is not None)
        if found is None:
            view.place.setText("Choose a data set, and the folder it lies in.")
            view.pixel_size.clear()
            return
        view.error_bar.say("")
        view.source.set_value(found.data.name, found.root)
        self._describe()
        parts = (*found.data.splits, *(s for s in found.split.split(",")))
        view.split.set_values({p: p for p in dict.fromkeys((*parts, "all"))})
        view.split.set_value(found.split)
        from napari_pathsam.datasets import DATASETS

        view.show_targets(DATASETS[found.data.name].targets)
        self._show_list()

    def _on_image(self, shown: BrowsedImage) -> None:
        self.layers.show(shown)
        self.view.pixel_size.set_value(shown.mpp)
        sample = shown.sample
        estimate = ", pixel size estimated" if shown.estimated else ""
        self.view.place.setText(
            f"<b>{html.escape(sample.name)}</b> · {shown.index + 1} of {self.browsing.n} · "
            f"{shown.image.shape[0]} × {shown.image.shape[1]} px{estimate}"
        )
        self.view.list.show_chosen(shown.index)

    def _on_answer(self, answer: Answered | None) -> None:
        shown = self.browsing.image
        if shown is None:
            return
        if answer is None:
            self.layers.show_answer(None, shown)
            self.view.score.setText("")
            return
        self.layers.show_answer(answer, shown)
        classes = answer.scored.per_class
        lines = [_line(answer.scored.figures)]
        if len(classes) > 1:
            lines.append("Dice of " + ", ".join(
                f"{html.escape(name)} {figure_text(value)}" for name, value in classes.items()
            ))  # fmt: skip
        self.view.score.setText("<br>".join(lines))

    def _on_scores(self) -> None:
        if not self._listing.isActive():
            self._listing.start()

    def _show_list(self) -> None:
        browsing, key = self.browsing, self.browsing.figure
        self.view.order.set_values(
            {"": AS_LISTED} | {k: f"the worst {title}" for k, title in browsing.figures.items()}
        )
        self.view.order.set_value(browsing.order_by)
        samples = browsing.opened.samples if browsing.opened else ()
        values = {i: s.figures[key].value for i, s in browsing.scores.items() if key in s.figures}
        self.view.list.set_value(
            browsing.order, samples, values, browsing.figures.get(key, "score")
        )
        self.view.list.show_chosen(browsing.image.index if browsing.image else None)
        n = len(browsing.scores)
        self.view.totals.setText(
            f"{n} of {browsing.n} scored, added up: {_line(browsing.totals)}" if n and
            browsing.totals else ""
        )  # fmt: skip

    def _on_progress(self, progress: Progress | None) -> None:
        self.view.progress.show_progress(progress)
        if progress is not None:
            self.view.progress.bar.setFormat(f"{progress.done} of {progress.total} images")
        self.view.all_button.setEnabled(progress is None and self.browsing.n > 0)
        self._tell()

    def _on_busy(self, text: str) -> None:
        self._busy = text
        self._tell()

    def _tell(self) -> None:
        """What is done, and at which object of the image it is; again while there is something."""
        text = self._busy or ("Scoring" if self.browsing.scoring_all else "")
        done, total = self.browsing.objects
        told = f"{text}, object {done} of {total}" if text and 0 < done < total else text
        self.view.status.setText(f"{told}…" if told else "")
        if bool(text) != self._telling.isActive():
            self._telling.start() if text else self._telling.stop()

    def _on_failed(self, text: str) -> None:
        self.view.error_bar.say(text)

    # --- the end ---

    def finish_threads(self) -> None:
        for runner in (self.runner, self.files, self._downloads):
            runner.close(wait_s=2)

    def stop(self) -> None:
        self._binder.unbind()
        self._listing.stop()
        self._telling.stop()
        self.supply.close()
        for signal, slot in self._signals():
            with suppress(ValueError, TypeError, RuntimeError):
                signal.disconnect(slot)
        self.browsing.close()
        for runner in (self.runner, self.files, self._downloads):
            runner.close()


def _line(figures: Mapping[str, Figure]) -> str:
    """``Dice 0.912 · IoU 0.838 · …``."""
    return " · ".join(f"{f.title} <b>{figure_text(f.value)}</b>" for f in figures.values())


def browse_data_set(viewer: Viewer) -> None:
    """Open the dock, the menu's command."""
    viewer.window.add_plugin_dock_widget("napari-pathsam", "PathSAM: Browse")
