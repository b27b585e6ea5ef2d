"""Training: configuration, data, losses, loops that yield reports."""
