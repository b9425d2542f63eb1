"""The log of one run of a sweep."""

import pytest

from tests.run.sweeping.parts import make_sweep
from unet_jax.run.sweeping.plan import plan_sweep
from unet_jax.run.sweeping.study import Claim
from unet_jax.run.sweeping.trial import Trial


@pytest.fixture
def trial(config, tmp_path):
    trial = Trial(
        plan_sweep(make_sweep(), config, tmp_path),
        Claim(None, "low", {}, set()),
        tmp_path,
    )
    trial.log.parent.mkdir()
    return trial


def test_a_failure_is_described_by_the_lines_since_the_start(trial):
    trial.log.write_text("an earlier error\nstep 50")
    trial.note("started")
    with trial.log.open("a") as file:
        file.write("ValueError: bad\nprofiler server started\n")
    lines = "ValueError: bad\nprofiler server started"
    assert trial.describe_failure(1) == f"exit code 1\n{lines}"


def test_a_note_has_a_line_of_its_own(trial):
    trial.log.write_text("step 50")  # of a process that was killed
    trial.note("failed: /data/\udcff")  # a file name that is not UTF-8
    lines = trial.log.read_text().splitlines()
    assert lines[0] == "step 50"
    assert lines[1].startswith("--- 20")
    assert "failed: /data/" in lines[1]
    assert len(lines) == 2


def test_a_log_that_cannot_be_written_stops_nothing(trial):
    trial.log.mkdir()
    trial.note("complete")
