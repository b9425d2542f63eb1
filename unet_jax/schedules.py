"""Learning rate schedules, each with a linear warm-up from zero.

A schedule is `(peak, steps, *, warmup, ...) -> step -> rate`. The rate reaches `peak`
after `warmup` steps, or after half of the run if that is shorter. The decay ends at
step `steps`.
"""

import functools
from collections.abc import Callable
from typing import Annotated

import optax

from unet_jax.specs import Domain, Positive, Proportion, Whole

__all__ = ["constant", "cosine", "exponential", "polynomial"]

_FinalFraction = Annotated[float, Domain("above 0, to 1", lambda x: 0 < x <= 1)]


def constant(peak: float, steps: int, *, warmup: Whole = 0) -> optax.Schedule:
    """Keeps the rate at the peak."""
    return _warm_up(peak, steps, warmup, lambda _: optax.constant_schedule(peak))


def cosine(
    peak: float, steps: int, *, warmup: Whole = 0, final: Proportion = 0.0
) -> optax.Schedule:
    """Decays along half a cosine, from the peak to `final` times the peak.

    Loshchilov and Hutter 2017, without restarts.
    """
    decay = functools.partial(optax.cosine_decay_schedule, peak, alpha=final)
    return _warm_up(peak, steps, warmup, decay)


def polynomial(
    peak: float,
    steps: int,
    *,
    warmup: Whole = 0,
    power: Positive = 0.9,
    final: Proportion = 0.0,
) -> optax.Schedule:
    """Decays as (1 - t / T)^power, from the peak to `final` times the peak.

    nnU-Net uses a power of 0.9.
    """
    decay = functools.partial(optax.polynomial_schedule, peak, peak * final, power)
    return _warm_up(peak, steps, warmup, decay)


def exponential(
    peak: float, steps: int, *, warmup: Whole = 0, final: _FinalFraction = 0.01
) -> optax.Schedule:
    """Decays by a constant factor per step, from the peak to `final` times the peak."""
    decay = functools.partial(optax.exponential_decay, peak, decay_rate=final)
    return _warm_up(peak, steps, warmup, decay)


def _warm_up(
    peak: float, steps: int, warmup: int, make_decay: Callable[[int], optax.Schedule]
) -> optax.Schedule:
    warmup = min(warmup, steps // 2)  # a short run reaches the peak, too
    decay = make_decay(steps - warmup)
    if warmup == 0:
        return decay
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, decay], [warmup])
