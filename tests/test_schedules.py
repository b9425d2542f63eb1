import optax
import pytest

from unet_jax import schedules

PEAK, STEPS, WARMUP = 0.1, 100, 20


def test_cosine_agrees_with_optax():
    ours = schedules.cosine(PEAK, STEPS, warmup=WARMUP, final=0.1)
    theirs = optax.warmup_cosine_decay_schedule(0.0, PEAK, WARMUP, STEPS, PEAK * 0.1)
    for step in (0, 7, 20, 63, 100):
        assert ours(step) == pytest.approx(float(theirs(step)), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "halfway", "end"),
    [
        (schedules.constant(PEAK, STEPS, warmup=WARMUP), PEAK, PEAK),
        (schedules.polynomial(PEAK, STEPS, warmup=WARMUP), PEAK * 0.5**0.9, 0.0),
        (schedules.exponential(PEAK, STEPS, warmup=WARMUP), PEAK * 0.1, PEAK * 0.01),
    ],
)
def test_warm_up_peak_and_end(schedule, halfway, end):
    assert schedule(0) == 0
    assert schedule(WARMUP // 2) == pytest.approx(PEAK / 2, rel=1e-5)
    assert schedule(WARMUP) == pytest.approx(PEAK, rel=1e-5)
    assert schedule(WARMUP + 40) == pytest.approx(halfway, rel=1e-4)
    assert schedule(STEPS) == pytest.approx(end, abs=1e-6)


def test_a_run_shorter_than_the_warmup_reaches_the_peak():
    schedule = schedules.cosine(PEAK, 10, warmup=500)
    assert schedule(5) == pytest.approx(PEAK, rel=1e-5)
    assert schedule(10) == pytest.approx(0, abs=1e-6)
