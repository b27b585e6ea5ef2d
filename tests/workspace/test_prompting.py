"""Prompts are answered on their own; the newest answer wins; errors change nothing."""

from dataclasses import replace

import numpy as np
import pytest

from napari_pathsam.core.errors import BadImageError
from napari_pathsam.core.geometry import Region
from napari_pathsam.workspace import ArraySource, Workspace

from .conftest import DISCS, SHAPE, Config, GrowModel, Heard, LateRunner, disc, discs_image  # noqa: TID252


def shown(workspace: Workspace) -> np.ndarray:
    """The candidate on the whole image; at the image's own resolution."""
    whole = np.zeros(SHAPE, bool)
    candidate = workspace.candidate
    assert candidate.mask.shape == candidate.region.shape_yx
    whole[candidate.region.slices] = candidate.mask
    return whole


def click(workspace, name, positive=True):
    workspace.add_point(*DISCS[name][:2], positive=positive)


def test_a_click_answers_on_its_own_and_encodes_once(workspace, model, heard):
    click(workspace, "a")
    assert np.array_equal(shown(workspace), disc("a"))
    assert workspace.candidate.score == pytest.approx(0.9)
    assert workspace.candidate.n == 3
    click(workspace, "b")
    assert np.array_equal(shown(workspace), disc("a") | disc("b"))
    assert len(model.encoded) == 1
    assert heard.busy == ["Loading pathsam-nano", None, "Encoding the field in view", None]
    assert not heard.failed


def test_a_further_click_passes_the_previous_answer_on(workspace, model):
    click(workspace, "a")
    workspace.cycle_mask()
    click(workspace, "a", positive=False)
    assert model.decoded[0][1] is None
    assert model.decoded[1][1].best == 1
    workspace.clear()
    click(workspace, "c")
    assert model.decoded[-1][1] is None


def test_that_nothing_was_found_is_told_as_an_answer(workspace, model, heard, monkeypatch):
    decode = model.decode_prompts

    def nothing(*asked, **how):
        answer = decode(*asked, **how)
        return replace(answer, low_res_logits=np.full_like(answer.low_res_logits, -5))

    monkeypatch.setattr(model, "decode_prompts", nothing)
    told = []
    workspace.candidate_changed.connect(lambda found: told.append((found, workspace.answered)))
    click(workspace, "a")
    assert told[-1] == (None, True)
    assert not heard.status  # which would outlive it


def test_moving_or_removing_a_point_starts_from_the_points_alone(workspace, model):
    click(workspace, "a")
    click(workspace, "b")
    workspace.move_point(1, *DISCS["c"][:2])
    assert model.decoded[-1][1] is None
    assert np.array_equal(shown(workspace), disc("a") | disc("c"))
    workspace.remove_point(0)
    assert np.array_equal(shown(workspace), disc("c"))


def test_points_from_a_layer_are_one_step_and_the_same_points_none(workspace):
    workspace.set_points([(30, 30), (75, 50)], [True, True])
    workspace.set_points([(np.float64(30), 30), (75, 50)], np.array([True, True]))
    assert workspace.prompts.points_yx == ((30.0, 30.0), (75.0, 50.0))
    workspace.undo()
    assert not workspace.can_undo
    assert workspace.candidate is None


def test_box_scribble_and_lasso(workspace, model):
    workspace.set_box((20, 30, 41, 60))
    assert shown(workspace).sum() == 21 * 30
    workspace.clear()
    workspace.add_scribble([(25, 25), (35, 35)])
    assert len(workspace.prompts.points_yx) == 2
    assert np.array_equal(shown(workspace), disc("a"))
    workspace.clear()
    workspace.add_polygon([(10, 10), (10, 50), (50, 50), (50, 10)])
    said = model.decoded[-1][0]
    assert said.mask.sum() == pytest.approx(40 * 40, rel=0.06)
    assert said.box is not None
    assert workspace.candidate is not None


def test_undo_brings_the_candidate_back_without_decoding(workspace, model):
    click(workspace, "a")
    first = workspace.candidate
    click(workspace, "b")
    second = workspace.candidate
    n = len(model.decoded)
    workspace.undo()
    assert workspace.candidate is first
    workspace.redo()
    assert workspace.candidate is second
    workspace.undo()
    workspace.undo()
    assert workspace.candidate is None
    assert not workspace.prompts
    assert len(model.decoded) == n


def test_cycling_skips_empty_masks_and_comes_round(workspace, heard):
    click(workspace, "b")
    workspace.cycle_mask()
    assert workspace.candidate.index == 1
    assert shown(workspace).sum() < disc("b").sum()
    workspace.cycle_mask()
    assert workspace.candidate.index == 0
    assert len(heard.candidates) == 3


@pytest.fixture
def late(model, source, tmp_path):
    runner = LateRunner()
    workspace = Workspace(
        model_loader=lambda name, device: model, runner=runner, journal_dir=tmp_path / "late"
    )
    workspace.open_image(source)
    yield workspace, runner
    workspace.close_image()


def test_clicks_during_encoding_are_answered_by_one_decoding(late, model):
    workspace, runner = late
    click(workspace, "a")
    click(workspace, "b")
    runner.run()  # loads
    click(workspace, "c")
    assert workspace.busy == "Encoding the field in view"
    runner.run()  # encodes
    assert workspace.busy is None
    runner.run_all()
    assert len(model.decoded) == 1
    assert np.array_equal(shown(workspace), disc("a") | disc("b") | disc("c"))


def test_an_answer_does_not_wait_for_an_encoding_nobody_wants(late, model):
    workspace, runner = late
    click(workspace, "a")
    runner.run_all()
    workspace.reject()
    workspace.set_view(Region.of(SHAPE), 0.5)  # zoomed out: another field
    click(workspace, "b")
    (encoding,) = runner.jobs
    assert workspace.busy == "Encoding the field in view"
    workspace.reject()
    workspace.set_view(Region.of(SHAPE), 1.0)
    click(workspace, "a")
    assert encoding.cancelled
    assert workspace.busy is None
    runner.run_all()
    assert workspace.answered
    assert np.array_equal(shown(workspace), disc("a"))
    assert len(model.encoded) == 1


def test_the_time_left_is_known_from_the_last_encoding(late, monkeypatch):
    workspace, runner = late
    clock = [0.0]
    monkeypatch.setattr("napari_pathsam.workspace.prompting.time.monotonic", lambda: clock[0])
    click(workspace, "a")
    runner.run()  # loads
    assert workspace.busy
    assert workspace.seconds_left is None
    clock[0] = 8.0
    runner.run_all()
    assert workspace.seconds_left is None
    workspace.forget_embeddings()
    clock[0] = 9.0
    assert workspace.seconds_left == pytest.approx(7.0)


def test_a_stale_answer_is_dropped(late):
    workspace, runner = late
    click(workspace, "a")
    runner.run_all()
    workspace.clear()
    click(workspace, "b")
    stale = runner.jobs[0]
    workspace.clear()
    click(workspace, "c")
    newest = runner.jobs[-1]
    assert stale.cancelled
    runner.run(newest)
    runner.run(stale, late=True)
    assert np.array_equal(shown(workspace), disc("c"))


def test_the_candidate_of_another_object_does_not_stay_while_refining(late):
    workspace, runner = late
    click(workspace, "a")
    runner.run_all()
    workspace.accept()
    click(workspace, "b")
    runner.run_all()
    shown_before = workspace.candidate
    click(workspace, "c")
    assert workspace.candidate is shown_before
    runner.run_all()
    workspace.refine(1)
    assert workspace.candidate is None
    assert workspace.accept() is None
    runner.run_all()
    assert np.array_equal(shown(workspace), disc("a"))


def test_an_answer_for_another_image_is_dropped(late, source):
    workspace, runner = late
    click(workspace, "a")
    runner.run_all()
    click(workspace, "b")
    stale = runner.jobs[0]
    workspace.open_image(ArraySource(discs_image()[:50], name="other"))
    runner.run(stale, late=True)
    assert workspace.candidate is None
    assert not workspace.prompts


def test_cancel_stops_encoding_and_the_next_click_starts_again(late, model):
    workspace, runner = late
    click(workspace, "a")
    runner.run()
    encoding = runner.jobs[0]
    workspace.cancel()
    assert workspace.busy is None
    assert encoding.cancelled
    runner.run(encoding, late=True)
    assert workspace.candidate is None
    click(workspace, "b")
    runner.run_all()
    assert np.array_equal(shown(workspace), disc("a") | disc("b"))


def test_undoing_the_first_click_keeps_the_encoding_under_way(late, model):
    workspace, runner = late
    click(workspace, "a")
    runner.run()
    workspace.undo()
    runner.run_all()
    assert workspace.candidate is None
    click(workspace, "b")
    runner.run_all()
    assert len(model.encoded) == 1
    assert np.array_equal(shown(workspace), disc("b"))


def test_errors_arrive_as_a_paragraph_and_change_nothing(workspace, model, heard):
    click(workspace, "a")
    before = workspace.candidate, workspace.prompts
    bad_calls = [
        lambda: workspace.add_point(-20, 5),
        lambda: workspace.add_point(np.nan, 5),
        lambda: workspace.set_box((10, 10, 10, 40)),
        lambda: workspace.set_box((500, 500, 600, 600)),
        lambda: workspace.remove_point(7),
        lambda: workspace.move_point(-1, 5, 5),
        lambda: workspace.set_points([(1, 1)], []),
        lambda: workspace.add_scribble([]),
        lambda: workspace.add_polygon([(1, 1), (2, 2)]),
        lambda: workspace.add_polygon([(-9, -9), (-9, -2), (-2, -2)]),
        lambda: workspace.refine(99),
        lambda: workspace.set_mpp(-1),
    ]
    for n, call in enumerate(bad_calls, start=1):
        call()
        assert len(heard.failed) == n, n
        assert (workspace.candidate, workspace.prompts) == before
    assert all("\n" not in text and len(text) > 20 for text in heard.failed)
    assert workspace.undo_text == "Add point"


def test_without_an_image_prompts_say_so(model, tmp_path):
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.add_point(1, 1)
    workspace.accept()
    workspace.undo()
    workspace.cycle_mask()
    workspace.restore()
    workspace.discard_saved()
    assert len(heard.failed) == 2
    assert workspace.instances.size == 0


class Broken(GrowModel):
    def encode(self, image, *, mpp=None):
        raise BadImageError("No tissue here.")


def test_a_worker_error_is_told_and_the_next_click_tries_again(source, tmp_path):
    loads = []

    def load(name, device):
        loads.append(name)
        if len(loads) == 1:
            raise RuntimeError("CUDA out of\nmemory")
        return Broken()

    workspace = Workspace(model_loader=load, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(source)
    click(workspace, "a")
    assert "CUDA out of memory" in heard.failed[0]
    assert workspace.busy is None
    click(workspace, "a")
    assert heard.failed[1:] == ["No tissue here."]
    assert len(loads) == 2
    assert len(workspace.prompts.points_yx) == 2
    workspace.close_image()


def test_another_model_answers_the_same_prompts(source, tmp_path):
    models = {"pathsam-nano": GrowModel(), "other": GrowModel()}
    workspace = Workspace(model_loader=lambda name, device: models[name], journal_dir=tmp_path)
    workspace.open_image(source)
    click(workspace, "a")
    workspace.set_model("other")
    assert len(models["other"].decoded) == 1
    workspace.set_model("other")
    assert len(models["other"].decoded) == 1
    click(workspace, "b")
    assert models["other"].decoded[1][1] is not None
    workspace.close_image()


def test_a_wide_view_gets_a_window_round_the_click_and_its_candidate_lies_right(tmp_path):
    big = np.full((1000, 1200, 3), 240, np.uint8)
    big[600:680, 900:960] = 60
    model = GrowModel(Config(field_px=128, mpp_range=(0.25, 1.0)))
    workspace = Workspace(model_loader=lambda *a: model, journal_dir=tmp_path)
    workspace.open_image(ArraySource(big, mpp=0.5))
    workspace.set_view(Region.of((1000, 1200)), 0.1)
    workspace.add_point(640, 930)
    assert workspace.field.region.shape_yx == (256, 256)
    assert model.encoded == [((128, 128), 1.0)]
    candidate = workspace.candidate
    assert candidate.mask.shape[0] < candidate.region.height
    assert candidate.scale_yx == pytest.approx((2, 2), rel=0.05)
    object_id = workspace.accept()
    own = workspace.instances == object_id
    truth = np.zeros_like(own)
    truth[600:680, 900:960] = True
    assert (own & truth).sum() / (own | truth).sum() > 0.95
    # Far off, another field is encoded; back again, the first one still is.
    workspace.add_point(20, 20)
    workspace.clear()
    workspace.add_point(650, 935)
    assert len(model.encoded) == 2
    workspace.close_image()


def test_changing_contrast_encodes_anew(workspace, model):
    click(workspace, "a")
    workspace.forget_embeddings()
    assert len(model.encoded) == 2
    workspace.set_mpp(0.25)
    assert model.encoded[-1][1] == pytest.approx(0.25)


def test_a_real_model(tiny_model, source, tmp_path):
    workspace = Workspace(model_loader=lambda *a: tiny_model, journal_dir=tmp_path)
    heard = Heard(workspace)
    workspace.open_image(source)
    for prompt in (
        lambda: workspace.add_point(30, 30),
        lambda: workspace.add_point(60, 90, positive=False),
        lambda: workspace.set_box((10, 10, 60, 70)),
        lambda: workspace.add_polygon([(10, 10), (10, 60), (60, 60), (60, 10)]),
    ):
        prompt()
        answer = workspace._shown
        whole = answer.masks.mask
        assert whole.shape == workspace.field.shape_yx == SHAPE
        if workspace.candidate is not None:
            assert np.array_equal(shown(workspace), whole)
        else:
            assert not whole.any()
    assert any(c is not None for c in heard.candidates)
    assert not heard.failed
    assert workspace.accept() == 1
    workspace.refine(1)
    workspace.accept()
    assert not heard.failed
    workspace.close_image()
