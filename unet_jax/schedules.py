"""Learning rates over a run, each with a linear warm-up from zero.

A schedule is `(peak, steps, *, warmup, ...) -> step -> rate`: it reaches `peak` after
`warmup` steps, or half of the run if that is shorter, and ends at `steps`.
"""

from collections.abc import Callable

import optax

from unet_jax.errors import UserError

__all__ = ["constant", "cosine", "exponential", "polynomial"]

# What follows the warm-up, given the steps that are left.
_After = Callable[[int], optax.Schedule]


def constant(peak: float, steps: int, *, warmup: int = 0) -> optax.Schedule:
    """The peak, to the end."""
    return _warm_up(peak, steps, warmup, lambda _: optax.constant_schedule(peak))


def cosine(
    peak: float, steps: int, *, warmup: int = 0, final: float = 0.0
) -> optax.Schedule:
    """Half a cosine from the peak to `final` times the peak (Loshchilov 2017)."""
    return _warm_up(
        peak,
        steps,
        warmup,
        lambda left: optax.cosine_decay_schedule(peak, left, alpha=final),
    )


def polynomial(
    peak: float, steps: int, *, warmup: int = 0, power: float = 0.9, final: float = 0.0
) -> optax.Schedule:
    """(1 - t / T)^power, from the peak to `final` times the peak (as nnU-Net does)."""
    return _warm_up(
        peak,
        steps,
        warmup,
        lambda left: optax.polynomial_schedule(peak, peak * final, power, left),
    )


def exponential(
    peak: float, steps: int, *, warmup: int = 0, final: float = 0.01
) -> optax.Schedule:
    """A constant factor per step, from the peak to `final` times the peak."""
    return _warm_up(
        peak, steps, warmup, lambda left: optax.exponential_decay(peak, left, final)
    )


def _warm_up(peak: float, steps: int, warmup: int, after: _After) -> optax.Schedule:
    if warmup < 0:
        raise UserError(f"config.schedule.warmup must be 0 or more steps, not {warmup}")
    warmup = min(warmup, steps // 2)  # a short trial of a long recipe still peaks
    decay = after(steps - warmup)
    if warmup == 0:
        return decay
    rise = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([rise, decay], [warmup])
