"""The profile of some training steps."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from unet_jax.build import fields
from unet_jax.errors import UserError
from unet_jax.run.step_profile import StepProfile, check_span
from unet_jax.specs import check_type


def take_steps(profile, steps):
    step_function = jax.jit(lambda x: jnp.sin(x).sum())
    for step in steps:
        profile.start(step, jnp.ones(1))
        with jax.profiler.TraceAnnotation(f"step{step}"):
            result = step_function(jnp.ones(100))
        profile.stop(step, result)


def read_steps(folder):
    """Returns the names of the steps in the file for Perfetto."""
    (trace,) = folder.rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name", "") for event in events}
    return sorted(name for name in names if name.startswith("step"))


def test_a_profile_holds_the_steps_of_its_span(tmp_path, capsys):
    take_steps(StepProfile((3, 4), tmp_path), range(1, 7))
    assert read_steps(tmp_path) == ["step3", "step4"]
    assert "perfetto_trace.json.gz; https://ui.perfetto.dev" in capsys.readouterr().out


def test_an_interrupted_profile_is_written(tmp_path):
    profile = StepProfile((2, 9), tmp_path)
    take_steps(profile, range(1, 4))
    profile.close()
    assert read_steps(tmp_path) == ["step2", "step3"]


@pytest.mark.parametrize("span", [(), (1, 4)])
def test_other_steps_are_not_profiled(tmp_path, span):
    profile = StepProfile(span, tmp_path)
    take_steps(profile, range(5, 8))  # of a resumed run, say
    profile.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("span", [(5,), (5, 2), (1, 2, 3), (0, 2)])
def test_a_wrong_span_is_refused(span):
    (field,) = (field for field in fields.FIELDS if field.name == "profile")
    with pytest.raises(UserError, match="two or none: 10,15 or"):
        check_type(span, field.type, "config.profile")


def test_a_span_after_the_last_step_is_refused():
    check_span((10, 15), steps=10)
    check_span((), steps=10)
    with pytest.raises(UserError, match="the last step; choose steps up to 9"):
        check_span((10, 15), steps=9)


def test_a_span_that_a_resumed_run_has_passed_is_named(tmp_path, capsys):
    StepProfile((2, 4), tmp_path, taken=4)
    assert "already taken the steps (2, 4)" in capsys.readouterr().out
    StepProfile((2, 4), tmp_path, taken=3)
    assert capsys.readouterr().out == ""


def test_a_profile_that_cannot_be_written_does_not_stop_the_run(
    tmp_path, capsys, monkeypatch
):
    profile = StepProfile((1, 1), tmp_path)

    def fail():
        stop()
        raise OSError(28, "No space left on device")

    stop = jax.profiler.stop_trace
    monkeypatch.setattr(jax.profiler, "stop_trace", fail)
    take_steps(profile, [1, 2])
    assert "No space left on device" in capsys.readouterr().out
