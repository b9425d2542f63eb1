"""Skipped steps are counted across lines of the log and checkpoints."""

import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.run.step_scalars import StepScalars

NAN = np.nan


def collect(losses, saved=None):
    """Adds one step for each loss; those that are not finite were skipped."""
    waiting = StepScalars(saved)
    for loss in losses:
        skipped = jnp.float32(not np.isfinite(loss))
        waiting.add({"loss": jnp.float32(loss), "skipped": skipped})
    waiting.fetch()
    return waiting


def test_the_mean_is_over_the_steps_that_were_taken():
    assert collect([1, 4]).average() == {"loss": 2.5}
    assert collect([1, NAN, 4, np.inf]).average() == {"loss": 2.5, "skipped": 2}
    assert collect([NAN]).average() == {"loss": None, "skipped": 1}


@pytest.mark.parametrize(
    ("losses", "row"),
    [([1, 2], 0), ([NAN, NAN, 1], 0), ([1, NAN], 1), ([NAN, 1, NAN, NAN], 2)],
)
def test_skipped_steps_in_a_row_are_counted(losses, row):
    """A run that has recovered goes on."""
    assert collect(losses).count_skipped_in_a_row() == row


def test_a_row_goes_on_after_a_line_of_the_log_and_a_checkpoint():
    waiting = collect([1, NAN, NAN])
    waiting.clear()
    assert waiting.count_skipped_in_a_row() == 2
    saved = waiting.to_json()
    assert collect([NAN], saved).count_skipped_in_a_row() == 3
    assert collect([1, NAN], saved).count_skipped_in_a_row() == 1
    between = collect([NAN], saved).to_json()
    assert collect([NAN], between).count_skipped_in_a_row() == 4
    assert collect([3], between).average() == {"loss": 3, "skipped": 1}


def test_the_warning_names_the_steps_and_the_numbers():
    assert collect([1, 2]).describe_skipped(10) == ""
    waiting = collect([NAN, 1, np.inf])
    assert waiting.list_skipped(10) == [8, 10]
    line = waiting.describe_skipped(10)
    assert line == "skipped step 8, 10; not finite: loss"
    waiting = StepScalars()
    waiting.add({"loss": 1.0, "skipped": 1.0})
    waiting.fetch()
    assert waiting.describe_skipped(3).endswith("not finite: the new state")


def test_a_line_of_the_log_has_the_names_of_the_log():
    waiting = collect([1, 4])
    assert waiting.summarize(lambda count: count / 10, 2, None) == {
        "train/loss": 2.5,
        "train/learning_rate": 0.1,
        "train/images_per_second": None,
    }


def test_the_learning_rate_is_that_of_the_last_update():
    """optax counts the updates, and a skipped step is none."""
    waiting = collect([NAN, 1, NAN, NAN])  # the steps 1 to 4
    waiting.clear()
    for loss in (1, NAN, 1):
        waiting.add({"loss": loss, "skipped": float(np.isnan(loss))})
    waiting.fetch()
    line = waiting.summarize(float, 7, None)  # the updates so far: steps 2 and 5
    assert line["train/learning_rate"] == 2
    assert line["train/skipped"] == 1
    again = StepScalars(waiting.to_json())
    assert again.summarize(float, 7, None) == line


def test_a_run_that_is_older_than_the_count_resumes():
    waiting = StepScalars({"waiting": [{"loss": 1.0}]})
    waiting.add({"loss": 3.0, "skipped": 0.0})
    waiting.fetch()
    assert waiting.count_skipped_in_a_row() == 0
    assert waiting.average() == {"loss": 2.0}
