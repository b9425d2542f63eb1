"""The table of fields: defaults, types, and which fields may change."""

import pytest
from ml_collections import ConfigDict

from unet_jax import (
    augment,
    data,
    losses,
    methods,
    metrics,
    models,
    optimizers,
    parallel,
    schedules,
    tasks,
)
from unet_jax.build import field_checks, fields
from unet_jax.configs import base
from unet_jax.data import normalize, sampling, weights
from unet_jax.errors import UserError
from unet_jax.specs import bind, check_type

# The defaults, written by hand and not taken from the table.
DEFAULTS = {
    "name": "base",
    "seed": 0,
    "steps": 1000,
    "batch_size": 8,
    "crop": (128, 128),
    "log_every": 20,
    "profile": (),
    "logs": ("tensorboard",),
    "eval_every": 200,
    "checkpoint_every": 200,
    "max_bad_steps": 10,
    "init_from": "",
    "freeze": (),
    "data": {"name": "cells"},
    "spacing": (),
    "normalize": {"name": "standard"},
    "weight_map": {"name": "uniform"},
    "sampling": {"name": "uniform"},
    "sampling_share": 1.0,
    "cache": 4.0,
    "threads": 2,
    "model": {
        "name": "UNet",
        "widths": (64, 128, 256, 512, 1024),
        "padding": "SAME",
        "norm": "batch",
        "conv_bias": False,
        "activation": "relu",
        "negative_slope": 0.01,
        "encoder": "plain",
        "encoder_depths": (2,),
        "decoder_depths": (2,),
        "strides": ((2,),),
        "kernels": ((3,),),
        "downsample": "pool",
        "upsample": "transpose",
        "upsample_conv": True,
        "decoder_widths": (),
        "decoder_hidden": (),
        "up_widths": (),
        "head_kernel": 1,
        "dropout": 0.0,
        "residual": False,
        "attention": False,
        "deep_supervision": False,
        "time_features": 0,
        "remat": False,
    },
    "task": {"name": "semantic"},
    "method": {"name": "supervised"},
    "precision": "float32",
    "loss": (
        {"name": "cross_entropy", "scale": 1.0},
        {"name": "dice", "scale": 1.0, "smooth": 1.0},
    ),
    "supervise_coarsest": True,
    "augment": (
        {"name": "flip"},
        {"name": "rotation", "degrees": 180.0, "probability": 0.5},
        {"name": "scale", "low": 0.8, "high": 1.25, "probability": 0.5},
        {"name": "brightness", "sigma": 0.1},
        {"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5},
    ),
    "optimizer": {
        "name": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "clip": 1.0,
    },
    "schedule": {"name": "cosine", "warmup": 50},
    "ema": 0.0,
    "parallel": {"name": "pmap"},
    "metrics": (
        {"name": "dice"},
        {"name": "iou"},
        {"name": "precision"},
        {"name": "recall"},
        {"name": "accuracy"},
        {"name": "pixel_error"},
        {"name": "surface_dice", "tolerance": 1.0},
        {"name": "hausdorff95"},
        {"name": "calibration_error"},
        {"name": "brier"},
    ),
    "predict": {
        "tta": "none",
        "tile": (),
        "tiling": "auto",
        "batch": 0,
        "runtime": "xla",
        "channels": "exact",
        "save_probabilities": False,
        "save_uncertainty": False,
        "postprocess": (),
        "seed": 0,
    },
    "export": {
        "formats": ("onnx", "stablehlo", "safetensors", "bioimageio"),
        "dtype": "float32",
        "channels": 0,
        "precision": "float32",
        "authors": (),
        "license": "",
    },
    "plan": {"seconds": 60.0, "hours": 8.0},
}
MODULES = {
    "data": data,
    "normalize": normalize,
    "weight_map": weights,
    "sampling": sampling,
    "model": models,
    "task": tasks,
    "method": methods,
    "loss": losses,
    "augment": augment,
    "optimizer": optimizers,
    "schedule": schedules,
    "parallel": parallel,
    "metrics": metrics,
}


def test_the_defaults_of_base():
    config = base.get_config()
    assert field_checks.to_plain(config) == DEFAULTS
    assert isinstance(config.loss[0], ConfigDict)  # needed by --config.loss[0].scale=2
    config.model.widths, config.loss[0].scale = (8, 16), 2.0
    assert field_checks.to_plain(base.get_config()) == DEFAULTS


def test_every_default_has_the_type_of_its_field():
    field_checks.check_fields(base.get_config())
    names = [field.name for field in fields.FIELDS]
    assert len(set(names)) == len(names)
    for field in fields.FIELDS:
        assert field.comment
        assert names.index(field.name.partition(".")[0]) <= names.index(field.name)
        if field.default is not fields.UNSET:
            check_type(field.default, field.type, field.name)


@pytest.mark.parametrize("name", MODULES)
def test_every_default_spec_can_be_bound(name):
    default = field_checks.to_plain(base.get_config()[name])
    for spec in default if isinstance(default, tuple) else (default,):
        own = {k: v for k, v in spec.items() if k not in ("scale", "probability")}
        bind(MODULES[name], own, f"config.{name}")


@pytest.mark.parametrize(
    "name",
    ["steps", "name", "logs", "metrics", "metrics[0]", "predict.tta", "parallel.space"]
    + [f"method.{key}" for key in ("sampling_steps", "eta", "clip")]
    + ["predict.seed"]
    + [f"data.{key}" for key in ("root", "records", "manual_dir", "data_dir")],
)
def test_these_fields_may_change_in_a_resumed_run(name):
    assert fields.may_change(name)


@pytest.mark.parametrize(
    "name",
    ["seed", "data", "data.name", "data.rooted", "data.split", "model.widths", "task"]
    + [
        "method",
        "method.steps",
        "init_from",
        "freeze",
        "precision",
        "loss",
        "ema",
        "predicted",
    ],
)
def test_these_fields_may_not_change_in_a_resumed_run(name):
    assert not fields.may_change(name)


def test_missing_keys_of_a_section_have_their_defaults():
    config = base.get_config()
    config.predict = ConfigDict({"tta": "d4"})
    assert field_checks.read_section(config, "predict") == {
        **DEFAULTS["predict"],
        "tta": "d4",
    }


@pytest.mark.parametrize(
    ("predict", "words"),
    [
        ({"tta": "d5"}, "config.predict.tta must be 'none' or .*'d4'"),
        ({"tile": (64, 0)}, r"config.predict.tile must be a tuple.*\(64, 0\)"),
        ({"batch": -1}, "config.predict.batch must be a whole number of 0 or more"),
        ({"save_uncertanty": True}, "config.predict has no key 'save_uncertanty'; did"),
    ],
)
def test_a_wrong_key_of_a_section_is_an_error(predict, words):
    config = base.get_config()
    config.predict = ConfigDict(predict)
    with pytest.raises(UserError, match=words):
        field_checks.check_fields(config)
    with config.ignore_type():
        config.predict = "d4"
    with pytest.raises(UserError, match="config.predict must be a dict, not 'd4'"):
        field_checks.check_fields(config)


def test_the_error_about_an_old_field_names_its_replacement():
    config = base.get_config()
    config.head = "sigmoid"
    with pytest.raises(UserError) as error:
        field_checks.check_fields(config)
    assert str(error.value) == (
        "config.head is no longer a field; use config.task: {'name': 'semantic'} for "
        "softmax, {'name': 'multilabel'} for sigmoid"
    )


@pytest.mark.parametrize(
    ("field", "other", "overlap"),
    [
        ("loss", "loss", True),
        ("loss", "loss[0]", True),
        ("loss[0]", "loss", True),
        ("loss[0].scale", "loss", True),
        ("model", "model.widths", True),
        ("model.widths", "model", True),
        ("loss[0]", "loss[1]", False),
        ("loss[1]", "loss[10]", False),
        ("data.fold", "data.folds", False),
        ("model.widths", "model.norm", False),
    ],
)
def test_fields_overlap_if_one_is_a_part_of_the_other(field, other, overlap):
    assert fields.find_overlap(field, ["steps", other]) == (other if overlap else None)
