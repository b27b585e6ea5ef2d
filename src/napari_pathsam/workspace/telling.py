"""Telling a person what went wrong, instead of raising."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pydantic import ValidationError

from napari_pathsam.core.errors import PathsamError

P = ParamSpec("P")
R = TypeVar("R")


class Tells(Protocol):
    """Something with a ``failed`` signal."""

    @property
    def failed(self) -> Any:
        """Emits one paragraph."""


S = TypeVar("S", bound=Tells)


def told(action: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """An action whose errors of ours go to ``failed``; it then returns None."""

    @wraps(action)
    def telling(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return action(self, *args, **kwargs)
        except ValidationError as error:
            said = "; ".join(problem["msg"] for problem in error.errors())
            self.failed.emit(f"{said.removeprefix('Value error, ').capitalize()}.")
        except PathsamError as error:
            self.failed.emit(str(error))
        return None

    return telling
