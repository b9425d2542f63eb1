"""The parts that `build` makes from a config."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from unet_jax.build import training
from unet_jax.build.evaluation import build_evaluation
from unet_jax.build.training import build
from unet_jax.colours import OKABE_ITO
from unet_jax.errors import UserError


def test_overlapping_classes_have_no_channel_for_the_background(tiny):
    tiny.task.name = "multilabel"
    parts = build(tiny)
    assert parts.evaluation.prediction.task.classes == ("cell",)
    assert parts.model.outputs == 1
    assert parts.train[0]["label"].shape == (20, 24, 1)


def test_precision_is_the_type_of_the_computation_not_of_parameters(tiny, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tiny.precision = "bfloat16"
    parts = build(tiny)
    assert parts.model.dtype == jnp.bfloat16
    params = jax.eval_shape(parts.init, jax.random.key(0)).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_bfloat16_on_a_cpu_is_refused_in_training(tiny):
    tiny.precision = "bfloat16"
    with pytest.raises(UserError, match="config.precision='bfloat16' is slower"):
        build(tiny)


def write_three_classes(root):
    """Writes a pair of each split, whose masks have the values 0, 1 and 2."""
    pixels = np.arange(24 * 24).reshape(24, 24) % 3
    for i, split in enumerate(("train", "val", "test")):
        for kind, values in (
            ("images", np.roll(pixels, i) * 50 + i),
            ("masks", pixels),
        ):
            path = root / split / kind / "a.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(values.astype(np.uint8)).save(path)


def test_classes_without_a_name_are_numbered_and_a_resumed_run_keeps_its_own(
    tiny, tmp_path
):
    write_three_classes(tmp_path)
    data = {"name": "folder", "root": str(tmp_path), "background": False}
    tiny.data = ConfigDict(data)
    preprocessing = build(tiny).evaluation.prediction.preprocessing
    assert preprocessing["classes"] == ["class 0", "class 1", "class 2"]
    assert preprocessing["colours"] == [list(colour) for colour in OKABE_ITO[:3]]
    older = {
        "classes": ["background", "class 1", "class 2"],
        "colours": [[0, 0, 0], [230, 159, 0], [86, 180, 233]],
    }
    evaluation = build(tiny, resumed=preprocessing | older).evaluation
    assert evaluation.prediction.preprocessing == preprocessing | older
    assert evaluation.prediction.task.classes == tuple(older["classes"])
    assert not evaluation.omits_background


@pytest.mark.parametrize("before", [[["1", 2], ["2", 1]], [["1", -1]]])
def test_a_mask_value_keeps_its_class(tiny, tmp_path, before):
    write_three_classes(tmp_path)
    tiny.data = ConfigDict({"name": "folder", "root": str(tmp_path)})
    preprocessing = build(tiny).evaluation.prediction.preprocessing
    changed = preprocessing | {"label_map": before}
    error = "config.data: 1 in the masks is now class 1, and was "
    with pytest.raises(UserError, match=error):
        build(tiny, resumed=changed)
    with pytest.raises(UserError, match=error):
        build_evaluation(tiny, changed, {})


def test_the_share_of_sampling_is_that_of_the_last_rows(tiny):
    """Half of 8 crops are anywhere, and half where `foreground` places them."""
    tiny.crop, tiny.data.shape = (8, 8), (40, 40)

    def read(name, share):
        tiny.sampling = ConfigDict({"name": name})
        if name == "foreground":
            tiny.sampling.probability = 1.0
        tiny.sampling_share = share
        return next(build(tiny).read_batches(0, 1))["image"]

    anywhere, placed = read("uniform", 1.0), read("foreground", 1.0)
    half = read("foreground", 0.5)
    assert not np.array_equal(anywhere[4:], placed[4:])
    np.testing.assert_array_equal(half[:4], anywhere[:4])
    np.testing.assert_array_equal(half[4:], placed[4:])


@pytest.mark.slow
def test_without_the_coarsest_of_two_outputs_the_loss_is_that_of_the_finest(tiny):
    tiny.model.widths, tiny.model.dropout, tiny.augment = (4, 8, 8), 0.0, ()

    def compute_loss(supervised, coarsest):
        tiny.model.deep_supervision, tiny.supervise_coarsest = supervised, coarsest
        parts = build(tiny)
        state = parts.layout.put_state(parts.init(jax.random.key(0)))
        batch = parts.layout.put_batch(next(parts.read_batches(0, 1)))
        _, scalars = parts.train_step(state, batch, jax.random.key(0))
        return float(scalars["loss"])

    finest = compute_loss(False, True)
    np.testing.assert_allclose(compute_loss(True, False), finest, rtol=1e-5)
    assert abs(compute_loss(True, True) - finest) > 1e-4


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data", {"name": "cels"}, "config.data.name: unknown name 'cels'"),
        ("data", {"name": "cells", "shap": (16, 16)}, "mean --config.data.shape"),
        ("data", {"name": "cells", "train": -3}, "config.data.train must be"),
        ("normalize", {"name": "x"}, "config.normalize.name: unknown name"),
        ("weight_map", {"name": "x"}, "config.weight_map.name: unknown name"),
        ("sampling", {"name": "x"}, "config.sampling.name: unknown name"),
        ("parallel", {"name": "x"}, "config.parallel.name: unknown name"),
        ("augment", ({"name": "turn"},), r"config.augment\[0\]: the crop \(16, 32\)"),
    ],
)
def test_a_mistake_is_found_before_the_data_are_read(
    tiny, monkeypatch, field, value, message
):
    tiny.crop = (16, 32)
    tiny[field] = value
    monkeypatch.setattr(training, "load_splits", None)
    for check in (training.check_specs, training.build):
        with pytest.raises(UserError, match=message):
            check(tiny)


def test_three_means_are_for_data_of_three_channels(tiny):
    """The channels of the data are not known before they are read."""
    tiny.normalize = {"name": "fixed", "mean": (1.0, 2.0, 3.0), "std": (1.0, 1.0, 1.0)}
    training.check_specs(tiny)
