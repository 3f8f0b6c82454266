"""The installation's colours as a stylesheet of custom properties, readable in light and dark alike."""

from __future__ import annotations

from typing import Final

#: The surfaces of static/app.css that text and buttons in the accent colour stand on.
LIGHT_SURFACES: Final = ("#ffffff", "#f4f5f7")
DARK_SURFACES: Final = ("#1a1e24", "#111418")
#: WCAG 2 AA for text, with a little to spare for rounding.
ENOUGH: Final = 4.6


def stylesheet(accent: str) -> str:
    """`accent` is #rrggbb, shaded until it reads; text on it is black or white, whichever reads better."""
    light, dark = readable(accent, LIGHT_SURFACES, "#000000"), readable(accent, DARK_SURFACES, "#ffffff")
    return (
        f":root{{--accent:{light};--on-accent:{ink_on(light)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{--accent:{dark};--on-accent:{ink_on(dark)}}}}}\n"
    )


def readable(colour: str, surfaces: tuple[str, ...], towards: str) -> str:
    """The nearest shade of `colour`, mixed with `towards`, that reads on every one of the surfaces."""
    for step in range(21):
        shade = _mix(colour, towards, step / 20)
        if all(contrast(shade, surface) >= ENOUGH for surface in surfaces):
            return shade
    return towards


def ink_on(colour: str) -> str:
    """Black or white, whichever has more contrast on `colour`."""
    return max(("#ffffff", "#000000"), key=lambda ink: contrast(ink, colour))


def contrast(one: str, other: str) -> float:
    """WCAG 2's contrast ratio, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _mix(colour: str, towards: str, share: float) -> str:
    mixed = (round(a + (b - a) * share) for a, b in zip(_rgb(colour), _rgb(towards), strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    parts = [part / 255 for part in _rgb(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
