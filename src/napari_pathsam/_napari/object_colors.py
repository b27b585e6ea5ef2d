"""A colormap of objects: each has the colour of its class, however many there are.

napari's own one keeps a colour for every object and goes through all of them several times when it
is set and when one more comes: seconds, where there are tens of thousands.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray
from pydantic import PrivateAttr

LARGEST_ID = 2**24
"""There is a byte for each id up to the largest one; above this that is too much."""
UNKNOWN = 255
"""Stands for the class of an id that is no object yet; no class has this number."""
REPLACED = ("_map_without_cache", "_data_to_texture", "_values_mapping_to_minimum_values_set")
"""Of napari's inside; where one of them is called otherwise its own colormap is used."""


class ObjectColormap(DirectLabelColormap):
    """``color_dict`` holds the colours of classes, not of ids; what an id is, is looked up.

    Of napari's private methods those are replaced that ask for the colour of an id
    (:data:`REPLACED`). Make it with :func:`object_colormap`.
    """

    _class_of: NDArray[np.uint8] = PrivateAttr(
        default_factory=lambda: np.array([0, UNKNOWN], np.uint8)
    )

    def learn(self, class_of: Mapping[int, int]) -> None:
        """Objects that are new, or of another class now; ids from 1 to :data:`LARGEST_ID`."""
        ids = np.fromiter(class_of.keys(), np.int64, len(class_of))
        largest = int(ids.max(initial=0))
        if largest + 2 > len(self._class_of):
            grown = np.full(2 * largest + 2, UNKNOWN, np.uint8)
            grown[: len(self._class_of)] = self._class_of
            self._class_of = grown
        self._class_of[ids] = np.fromiter(class_of.values(), np.uint8, len(class_of))

    def map(self, values: Any) -> NDArray[np.floating]:
        """Colours ``(…, 4)`` of ids."""
        values = np.asarray(values)
        colors = self._map_without_cache(values)
        if self.use_selection:
            colors = np.where((values == self.selection)[..., None], colors, 0)
        return colors

    def _map_without_cache(self, values: NDArray) -> NDArray[np.floating]:
        return self._class_colors[self._classes(values)]

    def _data_to_texture(self, values: Any) -> Any:
        if self.use_selection or values.dtype.itemsize <= 2:
            return super()._data_to_texture(values)
        return self._class_texture[self._classes(values)]

    def _values_mapping_to_minimum_values_set(self, apply_selection: bool = True) -> Any:
        if self.use_selection and apply_selection:
            shown = self._map_without_cache(np.asarray(self.selection))
            return {self.selection: 1, None: 0}, {0: np.zeros(4), 1: shown}
        return super()._values_mapping_to_minimum_values_set(apply_selection)

    def _classes(self, ids: NDArray) -> NDArray[np.uint8]:
        """The last place of the table is nobody's."""
        found: NDArray[np.uint8] = self._class_of[np.clip(ids, 0, len(self._class_of) - 1)]
        return found

    @cached_property
    def _class_colors(self) -> NDArray[np.float32]:
        known = [self.color_dict.get(i, self.default_color) for i in range(256)]
        return np.array(known, np.float32)

    @cached_property
    def _class_texture(self) -> NDArray[np.unsignedinteger]:
        every = np.arange(256, dtype=np.int32)
        texture: NDArray[np.unsignedinteger] = super()._data_to_texture(every)
        return texture


def object_colormap(
    by_class: Mapping[int, str], class_of: Mapping[int, int], unknown: str
) -> DirectLabelColormap:
    """A colormap of objects by their class.

    Parameters
    ----------
    by_class
        A colour for each class id, 1 to 254.
    class_of
        The class of each object; ``unknown`` is the colour of other ids, but 0, and of classes
        that have none.
    """
    colors: dict[int | None, str] = {None: unknown, 0: "transparent"}
    as_known = all(hasattr(DirectLabelColormap, name) for name in REPLACED)
    if as_known and max(class_of, default=0) <= LARGEST_ID:
        made = ObjectColormap(color_dict=colors | dict(by_class))
        made.learn(class_of)
        return made
    each = {i: by_class.get(class_id, unknown) for i, class_id in class_of.items()}
    return DirectLabelColormap(color_dict=colors | each)
