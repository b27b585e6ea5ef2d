"""What the Segment dock found, saved by napari's own File > Save."""

from __future__ import annotations

import json

import numpy as np
import pytest
from skimage.measure import label

from napari_pathsam.io.annotations import load_annotations, paint

from .test_segment import MICRONS, choose  # noqa: TID252

pytestmark = [pytest.mark.gui, pytest.mark.hidden]


def test_areas_and_objects_are_saved_as_what_they_are(segment_of, field, tmp_path):
    viewer, dock, hands = segment_of(np.ascontiguousarray(field.image[:96, :128]), **MICRONS)
    choose(dock, instances=True)
    dock.view.run_button.click()
    hands.until(lambda: dock.runner.idle and not dock.segmenting.running, 250_000)
    classes, objects = viewer.layers["PathSAM made"], viewer.layers["PathSAM made objects"]
    shown, ids = np.asarray(classes.data), np.asarray(objects.data)
    shown[40:44] = ids[40:44] = 0  # as if erased: two areas at least
    names = {info.id: info.name for info in dock.view.heads.value().classes}

    viewer.layers.selection = {classes}
    viewer.layers.save(str(tmp_path / "areas.geojson"), selected=True)
    features = json.loads((tmp_path / "areas.geojson").read_text())["features"]
    areas = sum(int(label(shown == i, connectivity=2).max()) for i in names)
    assert len(features) == areas > 1
    said = {feature["properties"]["classification"]["name"] for feature in features}
    assert said == {names[i] for i in np.unique(shown) if i}

    viewer.layers.selection = {classes, objects}
    viewer.layers.save(str(tmp_path / "both.geojson"), selected=True)
    found, kinds, table = paint(load_annotations(tmp_path / "both.geojson"), shown.shape)
    assert ((found > 0) == (ids > 0)).all()
    assert len(np.unique(found)) == len(np.unique(ids))
    wanted = np.vectorize(lambda i: names.get(i, ""))(shown)
    assert (np.vectorize(lambda i: table[i].name if i else "")(kinds) == wanted).all()
