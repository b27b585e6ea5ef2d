"""One object, one piece."""

from __future__ import annotations

import numpy as np
import pytest

from napari_pathsam.core.prompts import Prompts
from napari_pathsam.models.embedding import PromptedMask
from napari_pathsam.models.tidy import in_one_piece


@pytest.fixture
def answer() -> PromptedMask:
    """A large square with a small hole and a large one, and a small square beside it."""
    logits = np.full((1, 32, 32), -5.0, np.float32)
    logits[0, 2:22, 2:22] = 5
    logits[0, 4:6, 4:6] = -5  # small: 4 of 360 cells
    logits[0, 10:17, 10:17] = -5  # large: 49 cells
    logits[0, 26:30, 26:30] = 5
    return PromptedMask(logits, np.array([0.9], np.float32), 0, (64, 64))


def test_the_clicked_piece_stays(answer: PromptedMask) -> None:
    large = in_one_piece(answer, Prompts().with_point(40, 6)).mask
    assert large[40, 6]
    assert not large[55, 55]
    small = in_one_piece(answer, Prompts().with_point(55, 55)).mask
    assert small[55, 55]
    assert not small[40, 6]


def test_two_clicked_pieces_both_stay(answer: PromptedMask) -> None:
    both = in_one_piece(answer, Prompts().with_point(40, 6).with_point(55, 55)).mask
    assert both[40, 6]
    assert both[55, 55]


def test_without_a_click_on_it_the_largest_stays(answer: PromptedMask) -> None:
    for prompts in (Prompts(box=(0, 0, 64, 64)), Prompts().with_point(0, 63)):
        mask = in_one_piece(answer, prompts).mask
        assert mask[40, 6]
        assert not mask[55, 55]


def test_small_holes_are_filled_large_and_clicked_ones_stay(answer: PromptedMask) -> None:
    click = Prompts().with_point(40, 6)
    mask = in_one_piece(answer, click).mask
    assert mask[9, 9]
    assert not mask[27, 27]
    assert not in_one_piece(answer, click.with_point(9, 9, positive=False)).mask[9, 9]


def test_a_refined_object_may_be_in_several_pieces(answer: PromptedMask) -> None:
    mask = in_one_piece(answer, Prompts(mask=answer.mask)).mask
    assert mask[40, 6]
    assert mask[55, 55]


def test_the_answer_given_is_left_alone(answer: PromptedMask) -> None:
    before = answer.low_res_logits.copy()
    in_one_piece(answer, Prompts().with_point(40, 6))
    np.testing.assert_array_equal(answer.low_res_logits, before)


def test_outside_the_box_is_nothing_unless_it_was_clicked(answer: PromptedMask) -> None:
    box = Prompts(box=(4, 4, 44, 30))
    mask = in_one_piece(answer, box).mask
    assert mask[10, 29]
    assert not mask[:, 32:].any()
    assert mask.any(axis=0).nonzero()[0].tolist() == list(range(4, 30))  # to the pixel
    assert in_one_piece(answer, box.with_point(10, 40)).mask[10, 40]


def test_nothing_and_everything(answer: PromptedMask) -> None:
    for value in (-3.0, 3.0):
        flat = PromptedMask(
            np.full((3, 8, 8), value, np.float32), np.zeros(3, np.float32), 0, (20, 10)
        )
        assert in_one_piece(flat, Prompts().with_point(0, 0)).mask.all() == (value > 0)
