import json
import math
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
from unet_jax.errors import UserError
from unet_jax.models import UNet
from unet_jax.run import train
from unet_jax.run.planning import cost, memory_search
from unet_jax.run.planning.planner import format_plan, plan_training
from unet_jax.run.planning.rules import PlannedField


def run_get_config(source):
    """Returns the result of `get_config` in the source of a config file."""
    names = {}
    exec(compile(source, "plan.py", "exec"), names)
    return names["get_config"]()


@pytest.mark.slow
def test_a_plan_is_measured_and_its_file_trains(tiny, tmp_path):
    tiny.data.shape = (18, 40)
    tiny.metrics = tiny.metrics[:1]
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


def fake_memory(monkeypatch, free, memory):
    """Replaces compiling by a formula; returns the list of compiled sizes."""
    tried = []

    def compile_step(config, splits):
        tried.append((config.batch_size, config.crop, len(config.model.widths)))
        return cost.CompiledStep(None, None, memory(config), 2**20)

    monkeypatch.setattr(cost, "compile_step", compile_step)
    here = types.SimpleNamespace(read_free_memory=lambda: free)
    monkeypatch.setattr(memory_search.parallel, "local_devices", lambda: here)
    layout = parallel.pmap()._replace(replicas=1, space=1)
    monkeypatch.setattr(memory_search.parallel, "pmap", lambda: layout)
    return tried


def step_bytes(config):
    """Returns the bytes of the parameters plus 100 bytes for each pixel."""
    return 2**20 + 100 * config.batch_size * math.prod(config.crop)


@pytest.fixture
def images():
    return memory_search.ImageShapes(
        shapes=((512, 512),) * 400, median=(512, 512), aspect=(1, 1)
    )


def test_low_memory_reduces_the_batch_first_and_then_the_crop(monkeypatch, images):
    config = base.get_config()
    tried = fake_memory(monkeypatch, 2**50, step_bytes)
    memory_search.fit_to_memory(config, None, [], images)
    assert tried == [(20, (512, 512), 5)]  # 5 % of 400 images

    # 10 images take 250 MiB, and the parameters 1 MiB more
    tried = fake_memory(monkeypatch, 2 * 2**28, step_bytes)
    got = memory_search.fit_to_memory(config, None, [], images)
    assert [crop for _, crop, _ in tried] == [(512, 512)] * 2
    assert len(tried) == 2
    assert got.config.batch_size == tried[-1][0] == 10
    assert got.compiled.memory == step_bytes(got.config)

    tried = fake_memory(monkeypatch, 2 * 2**25, step_bytes)  # 1 image
    got = memory_search.fit_to_memory(config, None, [], images)
    assert len(tried) == 2
    assert got.config.batch_size == 2
    assert 256 < got.config.crop[0] < 512
    assert 2**24 < step_bytes(got.config) <= 2**25
    reasons = {field.field: field.reason for field in got.fields}
    assert "free memory" in reasons["crop"]


def test_a_step_that_never_fits_is_an_error_of_one_line(monkeypatch, images):
    fake_memory(monkeypatch, 2**30, lambda config: 2**31)
    with pytest.raises(UserError, match=r"2 GiB, more than half of the 1 GiB .*widths"):
        memory_search.fit_to_memory(base.get_config(), None, [], images)


def test_the_papers_recipe_keeps_one_large_tile(monkeypatch, images):
    fake_memory(monkeypatch, 2**50, step_bytes)
    config = base.get_config()
    config.model.padding, config.batch_size = "VALID", 1
    got = memory_search.fit_to_memory(config, None, [], images).config
    assert (got.batch_size, got.crop) == (1, (572, 572))
    assert got.model.widths == UNet().widths
    config.model.padding = "SAME"  # then the batch size is chosen as usual
    assert memory_search.fit_to_memory(config, None, [], images).config.batch_size == 20


def test_a_rare_class_changes_the_weight_map_and_the_sampling(monkeypatch):
    fake_memory(monkeypatch, 2**50, step_bytes)
    monkeypatch.setattr(cost, "measure_step_time", lambda config, compiled: 0.25)
    label = np.zeros((640, 640), np.int32)
    label[:32, :64] = 1  # 1/200
    image = np.arange(640 * 640, dtype=np.uint32).reshape(640, 640, 1)
    record = measure_record({"image": image, "label": label, "id": "a"}, "train")
    report = DatasetReport("here", ("background", "spot"), records=(record,))
    plan = plan_training(base.get_config(), report, None)
    assert plan.seconds == 250
    assert plan.config.weight_map.shares == (0.995, 0.005)
    assert plan.config.sampling.name == "foreground"
    weigh = binding.bind_field(weights, plan.config, "weight_map")
    assert weigh(label).mean() == pytest.approx(1)
    assert binding.bind_field(sampling, plan.config, "sampling")(np.array([0, 1])).any()

    config = base.get_config()  # sets both fields itself
    config.weight_map = ConfigDict({"name": "border"})
    config.sampling = ConfigDict({"name": "balanced"})
    plan = plan_training(config, report, None)
    assert plan.config.weight_map == config.weight_map
    assert plan.config.sampling == config.sampling


def test_set_fields_changes_a_copy():
    config = base.get_config()
    config.predict.tile = config.get_ref("crop")
    before = config.to_json()
    fields = [
        PlannedField("crop", (64, 32), ""),
        PlannedField("model.widths", (3, 6), ""),
        PlannedField("weight_map", {"name": "frequency", "shares": (0.99, 0.01)}, ""),
        PlannedField("spacing", (1.0, 2.0), ""),
    ]
    changed = memory_search.set_fields(config, fields)
    assert changed.model.widths == (3, 6)
    assert changed.spacing == (1.0, 2.0)
    assert changed.weight_map.to_dict() == fields[2].value
    assert changed.crop == changed.predict.tile == (64, 32)
    assert config.to_json() == before


def test_a_plan_needs_images(tiny):
    with pytest.raises(UserError, match="here holds no images"):
        plan_training(tiny, DatasetReport(root="here", classes=("a", "b")), None)
