"""Files in and out; no torch."""
