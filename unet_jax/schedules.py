"""Learning rates over a run, each with a linear warm-up from zero.

A schedule is `(peak, steps, *, warmup, ...) -> step -> rate`: it reaches `peak` after
`warmup` steps, or half of the run if that is shorter, and ends at `steps`.
"""

from collections.abc import Callable
from typing import Annotated

import optax

from unet_jax.specs import Domain, Positive, Proportion, Whole

__all__ = ["constant", "cosine", "exponential", "polynomial"]

_Share = Annotated[float, Domain("above 0, to 1", lambda x: 0 < x <= 1)]

# What follows the warm-up, given the steps that are left.
_After = Callable[[int], optax.Schedule]


def constant(peak: float, steps: int, *, warmup: Whole = 0) -> optax.Schedule:
    """The peak, to the end."""
    return _warm_up(peak, steps, warmup, lambda _: optax.constant_schedule(peak))


def cosine(
    peak: float, steps: int, *, warmup: Whole = 0, final: Proportion = 0.0
) -> optax.Schedule:
    """Half a cosine from the peak to `final` times the peak (Loshchilov 2017)."""
    return _warm_up(
        peak,
        steps,
        warmup,
        lambda left: optax.cosine_decay_schedule(peak, left, alpha=final),
    )


def polynomial(
    peak: float,
    steps: int,
    *,
    warmup: Whole = 0,
    power: Positive = 0.9,
    final: Proportion = 0.0,
) -> optax.Schedule:
    """(1 - t / T)^power, from the peak to `final` times the peak (as nnU-Net does)."""
    return _warm_up(
        peak,
        steps,
        warmup,
        lambda left: optax.polynomial_schedule(peak, peak * final, power, left),
    )


def exponential(
    peak: float, steps: int, *, warmup: Whole = 0, final: _Share = 0.01
) -> optax.Schedule:
    """A constant factor per step, from the peak to `final` times it, which is not 0."""
    return _warm_up(
        peak, steps, warmup, lambda left: optax.exponential_decay(peak, left, final)
    )


def _warm_up(peak: float, steps: int, warmup: int, after: _After) -> optax.Schedule:
    warmup = min(warmup, steps // 2)  # a short trial of a long recipe still peaks
    decay = after(steps - warmup)
    if warmup == 0:
        return decay
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, decay], [warmup])
