"""The estimate of the time that a sweep still takes."""

from pathlib import Path

import pytest

from unet_jax.run.sweeping.results import TrialResult
from unet_jax.run.sweeping.worker import estimate_left


@pytest.mark.parametrize(
    ("states", "at_once", "minutes"),
    [
        ("complete running waiting waiting waiting", 2, 20),  # 4 left of 10 min, by 2
        ("complete running running running waiting", 1, 40 / 3),  # other workers, too
        ("complete complete complete complete waiting", 2, 10),  # one is left
        ("complete pruned failed", 2, 10),  # two of five are not proposed yet
        ("running running waiting waiting waiting", 2, None),  # no time is known
        ("complete complete complete complete failed", 2, None),  # none is left
    ],
)
def test_the_runs_that_are_left_share_the_workers(states, at_once, minutes):
    results = [
        TrialResult(
            name=f"trial-{i}",
            folder=Path(f"trial-{i}"),
            point=f"trial-{i}",
            seed=None,
            fields={},
            state=state,
            scores={},
            minutes=10.0 if state == "complete" else None,
        )
        for i, state in enumerate(states.split())
    ]
    left = estimate_left(results, trials=5, at_once=at_once)
    assert left == (None if minutes is None else pytest.approx(minutes))
