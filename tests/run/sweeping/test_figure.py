"""The figure of a sweep."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unet_jax.run.sweeping import figure
from unet_jax.run.sweeping.plan import PlannedRun
from unet_jax.run.sweeping.results import TrialResult

NAMES = "test/average_precision(thresholds=(0.5,))", "test/pixel_error"


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1]], ids=["first", "last"])
def test_long_names_of_scores_do_not_overlap(names):
    runs = [PlannedRun(f"a-{seed}", "a", seed, {}) for seed in range(2)]
    plan: Any = SimpleNamespace(runs=runs, space={}, scores=names, lower=(False, True))
    results = [
        TrialResult(
            run.name,
            Path(),
            "a",
            run.seed,
            {},
            "complete",
            dict.fromkeys(names, 0.5),
            1,
        )
        for run in runs
    ]
    drawn = figure._draw_points(plan, results)
    drawn.draw_without_rendering()
    left, right = (panel.title.get_window_extent() for panel in drawn.axes)
    assert left.x1 < right.x0
    assert left.x0 >= 0
    assert right.x1 <= drawn.bbox.x1


def test_dollars_in_names_are_text():
    plan: Any = SimpleNamespace(
        runs=[PlannedRun("a$_$b", "a$_$b", None, {})],
        space={},
        scores=("test/dice",),
        lower=(False,),
    )
    (run,) = plan.runs
    done = TrialResult(
        run.name, Path(), run.point, None, {}, "complete", {"test/dice": 0.5}, 1
    )
    assert b"a$_$b" in figure.draw_figure(plan, [done], "title")
