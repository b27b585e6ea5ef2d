"""Errors a user may see: one readable paragraph that says what came, what would do, what to try."""


class PathsamError(Exception):
    """Base of every error this package raises on purpose; its text is fit for a dialog."""


class BadImageError(PathsamError, ValueError):
    """Pixels that cannot be read as an image of tissue."""


class BadPromptError(PathsamError, ValueError):
    """A prompt that asks for nothing: outside the image, without area, empty."""


class BadFileError(PathsamError, ValueError):
    """A damaged, foreign or hostile file; nothing was changed."""


class BadWeightsError(PathsamError, ValueError):
    """Weights that are not what they should be: tampered, truncated, of another model."""


class UnavailableError(PathsamError, RuntimeError):
    """Something that must be fetched or installed first."""


class Cancelled(PathsamError):
    """Work that was stopped because the user asked for it; nothing half-done is left."""


class BadLabelsError(PathsamError, ValueError):
    """Labels that nothing can be learned from: empty, off the image, of one class only."""
