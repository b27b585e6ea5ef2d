"""Models applied to pixels."""
