"""Units of length as microscopy files spell them."""

from __future__ import annotations

_MICRONS = {
    1e-6: "pm picometer", 1e-4: "Å angstrom", 1e-3: "nm nanometer",
    1.0: "um µm μm micron microns micrometer micrometre", 1e3: "mm millimeter",
    1e4: "cm centimeter", 1e5: "dm decimeter", 1e6: "m meter",
    25.4: "thou mil", 25_400.0: "in inch", 304_800.0: "ft foot",
}  # fmt: skip
_OF_NAME = {name: size for size, names in _MICRONS.items() for name in names.split()}


def microns_in(unit: object) -> float | None:
    """How many microns a unit has; None when it is no known length (pixels, nothing …)."""
    return _OF_NAME.get(unit.strip()) if isinstance(unit, str) else None
