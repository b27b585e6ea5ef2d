"""Mixed precision only where a device has instructions for it."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch

from napari_pathsam.training.precision import has_bfloat16, mixed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("told", "has"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"neon": True, "bf16": True}, True),
        ({"architecture": "s390x"}, True),  # not known
    ],
)
def test_a_processor_is_asked(monkeypatch: pytest.MonkeyPatch, told: dict, has: bool) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: MappingProxyType(told), raising=False
    )
    assert has_bfloat16(CPU) is has
    for wanted in (False, True):
        with mixed_precision(CPU, wanted=wanted):
            found = torch.ones(2, 2) @ torch.ones(2, 2)
        assert (found.dtype == torch.bfloat16) == (wanted and has)


def test_an_older_torch_does_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_bfloat16(CPU)
