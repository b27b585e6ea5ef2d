"""'Use context' in the Annotate dock: there for models that look round the field, only for them."""

from __future__ import annotations

import pytest

from napari_pathsam._napari.model_chooser import DEFAULT, Catalogue, ModelChoice

pytestmark = pytest.mark.gui


def test_the_switch_is_there_for_models_that_look_round_the_field(dock_of, field, model):
    asked = []

    def loader(name, device):
        asked.append(name)
        return model

    _, dock, hands = dock_of(field.image, loader=loader, rgb=True)
    panel, combo = dock.models, dock.models.chooser._model
    wsi = ModelChoice("wsi-sam-nano", "wsi-sam-nano", "Imported by you.", context=True)
    panel._on_catalogue(Catalogue((DEFAULT, wsi), frozenset({"auto", "cpu"})))
    assert not panel.context.isVisible()
    combo.setCurrentIndex(combo.findData("wsi-sam-nano"))
    hands.settle(3)
    assert panel.context.isVisible()
    assert panel.context.isChecked()
    hands.screenshot("use-context")
    prompter = dock.workspace._prompter
    assert (prompter.model_name, prompter.context) == ("wsi-sam-nano", True)
    panel.context.setChecked(False)
    assert prompter.context is False
    combo.setCurrentIndex(combo.findData(DEFAULT.name))
    assert not panel.context.isVisible()
