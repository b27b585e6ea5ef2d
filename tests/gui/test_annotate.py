"""The dock in a real viewer, driven with mouse and keys."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.gui


def test_click_then_accept(dock_of, field):
    _viewer, dock, hands = dock_of(field.image, rgb=True, name="H&E")
    assert dock.session.image is not None
    hands.click(field.lumen)
    hands.until(lambda: dock.workspace.candidate is not None)
    np.testing.assert_allclose(dock.workspace.prompts.points_yx[0], field.lumen, atol=0.6)
    layer = dock.session.candidate.layer
    assert layer.visible
    assert "0.91" in dock.candidate._score.format()
    hands.screenshot("1-candidate")
    hands.key("N")
    hands.until(lambda: len(dock.workspace.objects) == 1)
    assert not layer.visible
    assert dock.workspace.instances[130, 130] == 1
    assert dock.session.labels.layers["instances"].data[130, 130] == 1
    assert len(dock.session.prompts.points.data) == 0
    hands.screenshot("2-accepted")
