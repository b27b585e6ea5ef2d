"""“Segment all classes”, the menu command: opens the dock where needed, and presses its button."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari
    import napari.viewer

    from napari_pathsam._napari.segment import SegmentDock

WIDGET = "PathSAM: Segment"


def segment_all_classes(viewer: napari.viewer.Viewer) -> None:
    """Segment as the dock says; a dock that is new says first what is still to be chosen."""
    dock_of(viewer).segment_all()


def dock_of(viewer: napari.viewer.Viewer) -> SegmentDock:
    """The dock of a viewer, opened if it is not."""
    from napari_pathsam._napari.segment import SegmentDock

    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, SegmentDock):
            widget.show_in_front()
            return widget
    _, dock = viewer.window.add_plugin_dock_widget("napari-pathsam", WIDGET)
    assert isinstance(dock, SegmentDock)
    return dock
