"""How numbers are written, and how an axis is divided."""

import math

from unet_jax.report.contents import Number

NONE = "–"  # an undefined number


def number(value: Number) -> str:
    """A score or a distance, to about four digits."""
    if not known(value):
        return NONE
    size = abs(value)
    if 0 < size < 0.001:
        return _minus(f"{value:.1e}")
    return _minus(f"{value:,.{4 if size < 10 else 2 if size < 1000 else 0}f}")


def short(value: Number) -> str:
    """A number as it was measured, to four digits, whole from a thousand on."""
    if not known(value):
        return NONE
    return _minus(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")


def percent(value: Number) -> str:
    """A fraction as a percentage; only what is exactly 0 or 1 is written as such."""
    if not known(value):
        return NONE
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if value < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if value > 0.9995 else f"{100 * value:.1f} %"


def known(value: Number) -> bool:
    """Whether it is a number at all."""
    return value is not None and math.isfinite(value)


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that reach over `low` to `high`."""
    if high <= low:
        pad = abs(low) / 10 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """With as many decimals as the distance of two ticks needs."""
    decimals = max(0, -math.floor(math.log10(values[1] - values[0]) + 1e-9))
    return [_minus(f"{value:,.{decimals}f}") for value in values]


def _minus(text: str) -> str:
    return text.replace("-", "−")
