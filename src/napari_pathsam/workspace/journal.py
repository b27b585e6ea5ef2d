"""Journal: what was done to one image, one line an action, so that a killed process loses none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class SavedWork:
    """What a journal found on opening an image can bring back."""

    n_actions: int
    n_objects: int
    saved_at: datetime

    def __str__(self) -> str:
        things = "1 object" if self.n_objects == 1 else f"{self.n_objects} objects"
        return f"{things}, last saved {self.saved_at:%d %B %Y %H:%M}"
