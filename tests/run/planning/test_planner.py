import json
import math
import time
import types

import numpy as np
import pytest
from ml_collections import ConfigDict

from unet_jax import parallel
from unet_jax.build import binding
from unet_jax.build.dataset import survey_splits
from unet_jax.configs import base
from unet_jax.data import sampling, weights
from unet_jax.data.dataset_report import DatasetReport
from unet_jax.data.record import measure_record
from unet_jax.data.source import Source, Splits
from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.run import train
from unet_jax.run.planning import cost
from unet_jax.run.planning.planner import format_plan, plan_training

SPLITS = Splits(*3 * [Source("here", (), (), 1, 0, load=None)])  # the steps are fake


def run_get_config(source):
    """Returns the result of `get_config` in the source of a config file."""
    names = {}
    exec(compile(source, "plan.py", "exec"), names)
    return names["get_config"]()


@pytest.mark.slow
def test_a_plan_is_measured_and_its_file_trains(tiny, tmp_path):
    tiny.data.shape = (18, 40)
    tiny.metrics = tiny.metrics[:1]
    tiny.plan.seconds = 1e6  # also on a busy machine
    splits = survey_splits(tiny)
    plan = plan_training(tiny, splits.report, splits)
    planned = {field.field: field.value for field in plan.fields}
    assert planned["crop"] == plan.config.crop == (20, 40)
    assert planned["model.widths"] == plan.config.model.widths == (2, 4, 8)
    assert planned["batch_size"] == plan.config.batch_size == 8  # one for each device
    assert plan.memory > 20 * 40 * 4 * 2 * 4  # one image, four times as wide as level 0
    assert plan.seconds > 0
    # the given config is unchanged
    assert (tiny.crop, tiny.model.widths) == ((16, 16), (2, 4))

    whole = format_plan(plan, "cells")
    for source in (whole, format_plan(plan, 'a """quoted\\" root\nof two lines')):
        config = run_get_config(source)
        assert json.loads(config.to_json()) == json.loads(plan.config.to_json())
        assert config == plan.config  # with tuples, not lists
        assert max(map(len, source.splitlines())) <= 88
    assert "# it holds the median image, 18 x 40" in whole
    config.steps = 1
    assert train(config, tmp_path) == 0


@pytest.mark.slow
def test_memory_grows_with_the_batch_and_is_that_of_one_device(tiny):
    tiny.parallel = ConfigDict({"name": "mesh", "space": 2})
    tiny.crop, tiny.batch_size = (32, 32), 4
    splits = survey_splits(tiny)
    four = cost.compile_step(tiny, splits).memory
    tiny.batch_size = 16
    sixteen = cost.compile_step(tiny, splits).memory
    one = 32 * 32 * 2 * 4  # bytes of an image as wide as the first level
    assert sixteen - four > 3 / 2 * 4 * one  # 3 more for 2 devices, 4 layers at least
    assert sixteen < 16 * 20 * one  # not what all devices take together


class Machine:
    """A stand-in for compiling and timing a step, with a clock of its own.

    Attributes:
      tried: batch size, crop and levels of the measured steps.
      now: the time in seconds.
    """

    def __init__(self, monkeypatch, free, memory, speed=0.0, compiling=0.0):
        self.tried, self.now = [], 0.0

        def compile_step(config, splits):
            levels = len(config.model.widths)
            self.tried.append((config.batch_size, tuple(config.crop), levels))
            self.now += compiling
            return cost.CompiledStep(None, None, memory(config), 2**20)

        def measure_step_time(config, compiled):
            step = speed * config.batch_size * math.prod(config.crop)
            self.now += 3 * step
            return step

        monkeypatch.setattr(cost, "compile_step", compile_step)
        monkeypatch.setattr(cost, "measure_step_time", measure_step_time)
        here = types.SimpleNamespace(read_free_memory=lambda: free)
        monkeypatch.setattr(parallel, "local_devices", lambda: here)
        layout = parallel.pmap()._replace(replicas=1, space=1)
        monkeypatch.setattr(parallel, "pmap", lambda: layout)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def a_report(count, shape=(512, 512), **changes):
    """A report of `count` training images, of which one is measured."""
    image = np.arange(math.prod(shape), dtype=np.uint32).reshape(*shape, 1)
    label = (image[..., 0] % 2).astype(np.int32)
    record = measure_record({"image": image, "label": label, "id": "a"}, "train")
    records = tuple(record._replace(id=str(i), **changes) for i in range(count))
    return DatasetReport("here", ("background", "spot"), records=records)


def a_plan(config, *given, report=None):
    """Returns the plan for 400 images of 512 x 512, and its reasons."""
    plan = plan_training(config, report or a_report(400), SPLITS, given)
    return plan.config, {field.field: field.reason for field in plan.fields}


def step_bytes(config):
    """Returns the bytes of the parameters plus 100 bytes for each pixel."""
    return 2**20 + 100 * config.batch_size * math.prod(config.crop)


def test_without_limits_the_largest_crop_and_batch_are_chosen(monkeypatch):
    machine = Machine(monkeypatch, 2**50, step_bytes)
    config, _ = a_plan(base.get_config())
    assert config.crop == (512, 512)
    assert config.batch_size == 20  # 5 % of 400 images
    assert len(config.model.widths) == 5
    pixels = [batch * math.prod(crop) for batch, crop, _ in machine.tried]
    assert pixels[0] <= 2 * 128**2  # soon there is a plan
    assert all(b <= 8 * a for a, b in zip(pixels, pixels[1:], strict=False))


def test_low_memory_reduces_the_batch_first_and_then_the_crop(monkeypatch):
    # 10 images take 250 MiB, and the parameters 1 MiB more
    machine = Machine(monkeypatch, 2 * 2**28, step_bytes)
    config, reasons = a_plan(base.get_config())
    assert config.crop == (512, 512)
    assert 8 <= config.batch_size <= 10
    assert "more than half of the free memory" in reasons["batch_size"]
    assert len(machine.tried) <= 5

    Machine(monkeypatch, 2 * 2**25, step_bytes)  # 1 image
    config, reasons = a_plan(base.get_config())
    assert config.batch_size == 2
    assert 256 < config.crop[0] < 512
    assert 2**24 < step_bytes(config) <= 2**25
    assert "more than half of the free memory" in reasons["crop"]


def test_a_step_that_never_fits_is_an_error_of_one_line(monkeypatch):
    Machine(monkeypatch, 2**30, lambda config: 2**31)
    with pytest.raises(UserError, match=r"2 GiB, more than half of the 1 GiB .*widths"):
        a_plan(base.get_config())


def test_the_papers_recipe_keeps_one_large_tile(monkeypatch):
    Machine(monkeypatch, 2**50, step_bytes)
    config = base.get_config()
    config.model.padding, config.batch_size = "VALID", 1
    got, _ = a_plan(config)
    assert (got.batch_size, got.crop) == (1, (572, 572))
    assert got.model.widths == UNet().widths
    config.model.padding = "SAME"  # then the batch size is chosen as usual
    assert a_plan(config)[0].batch_size == 20


def test_the_run_ends_within_the_hours(monkeypatch):
    config = base.get_config()
    config.plan.hours = 1  # 80 % of it for 1000 steps: 2.88 s for a step
    machine = Machine(monkeypatch, 2**50, step_bytes, speed=1e-5)
    planned, reasons = a_plan(config)
    assert planned.steps == 1000
    pixels = planned.batch_size * math.prod(planned.crop)
    assert 0.6 * 2.88 < 1e-5 * pixels <= 2.88
    assert "takes longer than config.plan.hours" in reasons["crop"]
    assert max(batch for batch, _, _ in machine.tried) == 2

    # the smallest steps are too slow: there are fewer of them
    Machine(monkeypatch, 2**50, step_bytes, speed=2e-2)
    planned, reasons = a_plan(config, "crop")  # 128 x 128
    step = 2e-2 * planned.batch_size * 128**2
    assert 0.9 * 2880 < planned.steps * step <= 2880
    assert "as many as end in config.plan.hours=1" in reasons["steps"]
    assert planned.eval_every <= planned.steps
    planned, reasons = a_plan(config, "crop", "steps")
    assert planned.steps == 1000
    assert "longer than config.plan.hours=1" in reasons["steps"]


@pytest.mark.parametrize(("compiling", "count"), [(100, 1), (15, 3)])
def test_measurements_end_in_time(monkeypatch, compiling, count):
    machine = Machine(monkeypatch, 2**50, step_bytes, compiling=compiling)
    config, reasons = a_plan(base.get_config())
    assert len(machine.tried) == count
    assert machine.now <= max(60, compiling)
    assert (config.batch_size, config.crop) == machine.tried[-1][:2]
    assert "larger ones were not measured" in " ".join(reasons.values())


def test_a_plan_keeps_what_the_user_gave(monkeypatch):
    Machine(monkeypatch, 2**50, step_bytes)
    config = base.get_config()
    config.crop, config.batch_size, config.steps = (96, 96), 3, 77
    config.model.widths, config.model.norm = (5, 10, 20), "group"
    config.normalize = ConfigDict({"name": "unit"})
    config.loss = (ConfigDict({"name": "focal"}),)
    flags = "crop", "batch_size", "steps", "model.widths", "normalize.name", "loss"
    planned, reasons = a_plan(config, *flags)
    for field in ("crop", "batch_size", "steps", "model", "normalize", "loss"):
        assert planned[field] == config[field]
    assert reasons["crop"] == reasons["model.widths"] == "given by the user"
    assert run_get_config(format_plan(plan_of(config, flags), "x")) == planned

    widths, _ = a_plan(config, "model.widths")  # on its own, with any crop
    assert widths.model.widths == (5, 10, 20)
    assert widths.crop == (512, 512)
    crop, _ = a_plan(config, "crop")  # as deep as the crop allows: 96 / 16 = 6
    assert (crop.crop, len(crop.model.widths)) == ((96, 96), 5)
    batch, _ = a_plan(config, "batch_size")
    assert (batch.batch_size, batch.crop) == (3, (512, 512))
    config.crop = (8, 96, 96)
    with pytest.raises(UserError, match="config.crop has 3 sizes, the images 2 axes"):
        a_plan(config, "crop")


def plan_of(config, given):
    return plan_training(config, a_report(400), SPLITS, given)


def test_a_rare_class_changes_the_weight_map_and_the_sampling(monkeypatch):
    Machine(monkeypatch, 2**50, step_bytes)
    monkeypatch.setattr(cost, "measure_step_time", lambda config, compiled: 0.25)
    label = np.zeros((640, 640), np.int32)
    label[:32, :64] = 1  # 1/200
    image = np.arange(640 * 640, dtype=np.uint32).reshape(640, 640, 1)
    record = measure_record({"image": image, "label": label, "id": "a"}, "train")
    report = DatasetReport("here", ("background", "spot"), records=(record,))
    plan = plan_training(base.get_config(), report, SPLITS)
    assert plan.seconds == 250
    assert plan.config.weight_map.shares == (0.995, 0.005)
    assert plan.config.sampling.name == "foreground"
    weigh = binding.bind_field(weights, plan.config, "weight_map")
    assert weigh(label).mean() == pytest.approx(1)
    assert binding.bind_field(sampling, plan.config, "sampling")(np.array([0, 1])).any()

    config = base.get_config()  # sets both fields itself
    config.weight_map = ConfigDict({"name": "border"})
    config.sampling = ConfigDict({"name": "balanced"})
    plan = plan_training(config, report, SPLITS)
    assert plan.config.weight_map == config.weight_map
    assert plan.config.sampling == config.sampling

    street = SPLITS.train._replace(background=False)
    plan = plan_training(base.get_config(), report, SPLITS._replace(train=street))
    assert plan.config.sampling.name == "uniform"  # no class is the background


def test_a_plan_needs_images(tiny):
    with pytest.raises(UserError, match="here holds no images"):
        plan_training(tiny, DatasetReport(root="here", classes=("a", "b")), SPLITS)
