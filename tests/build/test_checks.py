"""Errors about a config: one line with the field and the remedy."""

import pytest
from ml_collections import ConfigDict

from unet_jax.build.training import build, check_specs
from unet_jax.errors import UserError

VALID = {"name": "UNet", "widths": (2, 4, 8, 16, 32)}
SAME = VALID | {"widths": (2, 4), "padding": "SAME"}

MISTAKES = [
    ("steps", 0, ["config.steps must be a whole number of 1 or more"]),
    ("seed", -1, ["config.seed"]),
    ("sampling_share", 1.5, ["config.sampling_share must be a number from 0 to 1"]),
    ("supervise_coarsest", 0, ["config.supervise_coarsest must be True or False"]),
    (
        "loss",
        (ConfigDict({"name": "dice", "axis_name": "replica"}),),
        ["config.loss[0]: 'dice' has no keyword 'axis_name'; available: background"],
    ),
    (
        "augment",
        (ConfigDict({"name": "low_resolution", "high": 1.5}),),
        ["config.augment[0]: needs 0 < low <= high <= 1, not low=0.5, high=1.5"],
    ),
    ("ema", 1.0, ["config.ema must be a number from 0 to below 1, not 1.0"]),
    ("cache", -1.0, ["config.cache"]),
    ("stepz", 3, ["config has no field 'stepz'; did you mean --config.steps?"]),
    ("learning_rate", 0.1, ["did you mean --config.optimizer.learning_rate?"]),
    ("name", "../x", ["config.name must be text that can name a folder"]),
    ("loss", ("name",), ["a tuple of specs, ({'name': ...},) with its comma"]),
    (
        "loss",
        (ConfigDict({"name": "dice", "scale": 0.0}),),
        ["config.loss: no term has a scale other than 0"],
    ),
    ("steps", 10**30, ["config.steps=1", "0 has more than 64 bits"]),
    ("cache", 1e39, ["config.cache=1e+39 is beyond 3.4e+38; lower it"]),
    ("crop", (10**30, 16), ["config.crop must be a tuple", "00000, 16)"]),
    (
        "task",
        ConfigDict({"name": "flow", "steps": 10**9}),
        ["config.task.steps must be a whole number from 1 to 100000"],
    ),
    ("data", ConfigDict({"name": "cells", "train": 10**9}), ["train must be a whole"]),
    (
        "data",
        ConfigDict({"name": "cells", "shape": (10**5, 10**5)}),
        ["config.data: shape=(100000, 100000) has more than 16777216 pixels"],
    ),
    (
        "data",
        ConfigDict({"name": "folder", "root": "a\0b"}),
        ["config.data.root must be text, not 'a\\x00b'"],
    ),
    ("head", "softmax", ["config.head is no longer a field", "config.task"]),
    ("task", "multilabel", ["config.task must be a spec, {'name': ...}"]),
    ("freeze", "down*", ["config.freeze needs a tuple: ('down*',), not"]),
    ("freeze", "a,b", ["config.freeze needs a tuple: ('a', 'b'), not 'a,b'"]),
    ("crop", 188, ["config.crop needs a tuple: (188,), not 188"]),
    ("loss", ConfigDict({"name": "dice"}), ["loss needs a tuple: ({'name': 'dice'},)"]),
    (
        "model",
        ConfigDict({"name": "UNet", "widths": 16}),
        ["config.model.widths needs a tuple: (16,), not 16"],
    ),
    (
        "model",
        ConfigDict(VALID | {"kernels": (3, 3)}),
        ["config.model.kernels needs a tuple: ((3, 3),), not (3, 3)"],
    ),
    *(
        (
            "data",
            ConfigDict({"name": "folder", "root": "x", field: value}),
            [f"config.data.{field} needs a tuple: ({value!r},), not {value!r}"],
        )
        for field, value in (("classes", "bg"), ("colours", "red"), ("label_map", 255))
    ),
    ("precision", "fp16", ["config.precision", "'float32' or 'bfloat16'"]),
    ("crop", (188.5, 188), ["config.crop", "(188.5, 188)"]),
    ("spacing", (1.0, 0.0), ["config.spacing", "above 0"]),
    ("spacing", (1.0, 1.0), ["cells/train, train-0000", "not known"]),
    ("sampling", ConfigDict({"name": "forground"}), ["config.sampling", "foreground"]),
    ("batch_size", 12, ["config.batch_size=12", "8 devices", "16", "'space':8"]),
    ("loss", (ConfigDict({"name": "dyce"}),), ["config.loss[0].name", "'dice'"]),
    (
        "loss",
        (ConfigDict({"name": "unet_jax.arrays:crop_centre"}),),
        ["config.loss[0]: ", "label, weight"],
    ),
    (
        "augment",
        (ConfigDict({"name": "elastic", "grid": 10**9}),),
        ["config.augment[0].grid must be a whole number from 2 to 64"],
    ),
    (
        "augment",
        (ConfigDict({"name": "flip", "probability": 2.0}),),
        ["config.augment[0].probability must be a number from 0 to 1"],
    ),
    ("metrics", (ConfigDict({"name": "pixel_error"}),), ["config.metrics", "higher"]),
    (
        "optimizer",
        ConfigDict({"name": "sgd", "learning_rate": -1.0}),
        ["config.optimizer.learning_rate must be a number of 0 or more"],
    ),
    (
        "schedule",
        ConfigDict({"name": "cosine", "warmups": 3}),
        [
            "config.schedule: 'cosine' has no keyword 'warmups'; did you mean "
            "--config.schedule.warmup?"
        ],
    ),
    (
        "parallel",
        ConfigDict({"name": "mesh", "space": 3}),
        ["config.parallel: space=3 must divide", "8"],
    ),
    ("data", ConfigDict({"name": "cell"}), ["config.data.name", "'cells'"]),
    (
        "loss",
        (ConfigDict({"name": "cross_entropy", "class_weights": (1.0, 2.0, 3.0)}),),
        ["config.loss[0]: class_weights has length 3 and there are 2 classes"],
    ),
    (
        "loss",
        (ConfigDict({"name": "dice", "smooth": -1.0}),),
        ["config.loss[0].smooth must be a number of 0 or more"],
    ),
    (
        "augment",
        (ConfigDict({"name": "flip"}), ConfigDict({"name": "flip", "axes": (2,)})),
        ["config.augment[1]: axes (2,)", "spatial axes (0, 1)"],
    ),
    (
        "schedule",
        ConfigDict({"name": "exponential", "final": 0.0}),
        ["config.schedule.final must be a number above 0"],
    ),
    ("data", ConfigDict({"name": "isbi2012", "fold": 9}), ["config.data: fold must"]),
    ("batch_size", 2**33, ["config.batch_size=8589934592", "GiB", "lower one"]),
    (
        "normalize",
        ConfigDict({"name": "percentile", "low": 99.0, "high": 1.0}),
        ["config.normalize: needs low < high"],
    ),
    (
        "normalize",
        ConfigDict({"name": "zscore"}),
        ["config.normalize.name", "standard"],
    ),
    (
        "weight_map",
        ConfigDict({"name": "border", "sigma": "5"}),
        ["config.weight_map.sigma must be a number above 0, not '5'"],
    ),
]


@pytest.mark.parametrize(("field", "value", "words"), MISTAKES)
def test_a_wrong_field_is_one_line_of_error(tiny, field, value, words):
    with tiny.ignore_type():
        tiny[field] = value
    with pytest.raises(UserError) as error:
        build(tiny)
    line = str(error.value)
    assert "\n" not in line
    assert ": config." not in line  # the field is named once
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (VALID | {"padding": "VALD"}, ["config.model.padding", "'VALID' or 'SAME'"]),
        (VALID | {"widths": (2, "x")}, ["config.model.widths", "(2, 'x')"]),
        (VALID | {"widths": (8,)}, ["config.model.widths needs two"]),
        (
            VALID | {"dropout": -0.1},
            ["config.model.dropout must be a number from 0 to below 1"],
        ),
        (VALID | {"activation": "rely"}, ["config.model.activation", "relu"]),
        (VALID | {"activation": "one_hot"}, ["config.model.activation", "relu"]),
        (VALID | {"depth": 3}, ["config.model: 'UNet' has no keyword 'depth'"]),
        (VALID | {"strides": ((2, 2),) * 5}, ["config.model.strides needs 1 entry or"]),
        (
            VALID | {"strides": (2, 2)},
            ["config.model.strides needs a tuple: ((2, 2),)"],
        ),
        (VALID | {"kernels": ((1, 3, 3),)}, ["config.model: kernels has", "2 axes"]),
        (SAME | {"widths": (10**9, 4)}, ["config.model needs ", "of this machine"]),
        (
            SAME | {"widths": (2**62, 4)},
            ["config.model.widths has 4611686018427387904;"],
        ),
        (SAME | {"kernels": ((10**9 + 1,),)}, ["config.model needs "]),
        (SAME | {"time_features": 10**9}, ["config.model needs "]),
        (VALID | {"kernels": ((4,),)}, ["config.model.kernels", "that is odd"]),
        (VALID | {"time_features": 3}, ["config.model.time_features", "that is even"]),
        (VALID | {"outputs": 3}, ["config.model: 'UNet' has no keyword 'outputs'"]),
    ],
)
def test_a_wrong_model_is_one_line_of_error(tiny, model, words):
    tiny.model = ConfigDict(model)
    with pytest.raises(UserError) as error:
        build(tiny)
    for word in words:
        assert word in str(error.value)


def test_an_illegal_crop_names_the_nearest_legal_sizes(tiny):
    """572 is the size of the paper; the next legal sizes differ by 16."""
    tiny.model = ConfigDict(VALID)
    tiny.crop = (580, 580)
    message = "crop=580,580 is .* 572 and 588 along axis 0, 572 and 588 along axis 1$"
    with pytest.raises(UserError, match=message):
        build(tiny)
    tiny.crop = (572, 100)
    with pytest.raises(UserError, match="nearest legal sizes are 188 along axis 1$"):
        build(tiny)


def test_a_mesh_is_suggested_only_if_it_can_share_the_crop(tiny):
    """No legal size of the paper's network is a multiple of 8.

    And the 4 groups of a mesh with space=2 cannot divide a batch of one image.
    """
    tiny.model, tiny.crop, tiny.batch_size = ConfigDict(VALID), (572, 572), 1
    with pytest.raises(UserError, match="8 devices; the next possible size is 8$"):
        build(tiny)


@pytest.mark.parametrize(("share", "printed"), [(0.05, True), (0.33, False)])
def test_a_share_of_no_crop_prints_a_line(tiny, capsys, share, printed):
    """Of 8 crops: `round(8 * 0.95)` is 8, `round(8 * 0.67)` is 5."""
    tiny.sampling_share = share
    build(tiny)
    line = f"config.sampling_share={share} of 8 labelled crops is none"
    assert (line in capsys.readouterr().out) == printed


def test_a_crop_larger_than_the_images_prints_a_line(tiny, capsys):
    tiny.crop = (32, 16)
    build(tiny)
    assert "config.crop=32,16 is larger than an image" in capsys.readouterr().out


def test_a_missing_field_is_an_error(tiny):
    del tiny.ema
    with pytest.raises(UserError, match="config.ema is missing"):
        build(tiny)


def test_a_crop_must_have_a_size_for_each_axis_of_the_images(tiny, theirs):
    """The data set of another package states its axes only with its images."""
    tiny.data = ConfigDict({"name": "theirs.sets:squares", "edge": 16})
    tiny.crop = (16, 16, 16)
    with pytest.raises(UserError, match="config.crop=16,16,16 must have 2 sizes"):
        build(tiny)


SIZES = "must have 2 or 3 sizes: height and width, or depth, height and width"
OF_CROP = "must have 2 sizes, one for each axis of config.crop=16,16"


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("crop", (), f"config.crop=() {SIZES}"),
        ("crop", (7,), f"config.crop=7 {SIZES}"),
        ("crop", (7, 7, 7, 7), f"config.crop=7,7,7,7 {SIZES}"),
        (
            "crop",
            (7, 7, 7),
            "config.crop=7,7,7 must have 2 sizes, one for each axis of the images of "
            "config.data",
        ),
        ("spacing", (1.0,), f"config.spacing=1.0 {OF_CROP}, or none"),
        ("spacing", (1.0,) * 3, f"config.spacing=1.0,1.0,1.0 {OF_CROP}, or none"),
        (
            "predict.tile",
            (8,) * 3,
            f"config.predict.tile=8,8,8 {OF_CROP}, or 1 or none",
        ),
        ("data.shape", (16,), f"config.data.shape=16 {SIZES}"),
        ("data.shape", (16,) * 4, f"config.data.shape=16,16,16,16 {SIZES}"),
        (
            "data.shape",
            (16,) * 3,
            "config.crop=16,16 must have 3 sizes, one for each axis of the images of "
            "config.data",
        ),
        (
            "data",
            ConfigDict({"name": "folder", "root": "x", "axes": 3}),
            "config.crop=16,16 must have 3 sizes, one for each axis of the images of "
            "config.data",
        ),
        (
            "data",
            ConfigDict({"name": "folder", "root": "x", "spacing": (1.0,)}),
            "config.data.spacing=1.0 must have 2 sizes, one for each axis of the "
            "images of config.data, or none",
        ),
        (
            "model.strides",
            ((2, 2, 2),),
            "config.model: strides has (2, 2, 2), 3 numbers for images of 2 axes; give "
            "one number for each axis, or one for all",
        ),
        (
            "model.kernels",
            ((3, 3, 3),),
            "config.model: kernels has (3, 3, 3), 3 numbers for images of 2 axes; give "
            "one number for each axis, or one for all",
        ),
        (
            "augment",
            (ConfigDict({"name": "scale", "axes": (1, 2)}),),
            "config.augment[0]: axes (1, 2): the crop (16, 16) has the spatial axes "
            "(0, 1); choose from these",
        ),
    ],
)
@pytest.mark.parametrize("check", [check_specs, build])
def test_a_field_has_as_many_numbers_as_there_are_axes(tiny, field, value, line, check):
    """A sweep checks its points with `check_specs`, which reads no data."""
    section, _, key = field.rpartition(".")
    part = tiny[section] if section else tiny
    with part.ignore_type():
        part[key] = value
    with pytest.raises(UserError) as error:
        check(tiny)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("predict.tile", (24,)),
        ("predict.tile", (24, 32)),
        ("model.strides", ((2,),)),
        ("model.kernels", ((3,),)),
    ],
)
def test_a_single_number_is_for_all_axes(tiny, field, value):
    section, key = field.split(".")
    tiny[section][key] = value
    check_specs(tiny)


def test_a_crop_must_be_a_multiple_of_the_devices_that_share_it(tiny):
    tiny.parallel = ConfigDict({"name": "mesh", "space": 4})
    tiny.crop = (18, 16)
    with pytest.raises(
        UserError, match="first size must be a multiple of config.parallel.space=4"
    ):
        build(tiny)


def test_a_metric_may_be_listed_twice_with_other_options(tiny):
    tiny.metrics = (
        ConfigDict({"name": "f1"}),
        ConfigDict({"name": "f1", "threshold": 0.9}),
        ConfigDict({"name": "dice"}),
    )
    names = [name for name, _ in build(tiny).evaluation.metrics]
    assert names == ["f1", "f1(threshold=0.9)", "dice"]
    tiny.metrics += (ConfigDict({"name": "dice"}),)
    with pytest.raises(UserError, match="config.metrics has dice more than once"):
        build(tiny)
    tiny.metrics = (ConfigDict({"name": "v_rand", "thresholds": ()}),)
    with pytest.raises(UserError, match=r"config.metrics\[0\]: thresholds is empty"):
        build(tiny)
