"""Mixed precision, where a device is faster for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def mixed_precision(device: torch.device, *, wanted: bool) -> torch.autocast:
    """Compute in bfloat16 where that is wanted and the device has instructions for it.

    A CPU without them computes in float32 and rounds, which is slower, and less exact for nothing.
    """
    enabled = wanted and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16; where torch does not tell it is taken to."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    # Not in torch 2.6; of some processors it tells nothing of this.
    told: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    known = [has for name, has in told.items() if "bf16" in name]
    return any(known) or not known
