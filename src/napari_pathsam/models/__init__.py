"""Torch modules: SAM 2 in every size, and what is built on it."""
