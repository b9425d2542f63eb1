"""Networks and predictions of nnU-Net v2, against nnU-Net itself."""

import functools
import json

import numpy as np
import pytest

from tests.pytorch.comparison import TOLERANCE, compare, randomise
from tests.pytorch.nnunet_folder import make_plans, write_folder
from unet_jax.errors import UserError
from unet_jax.pytorch import recognise
from unet_jax.pytorch.nnunet_plans import read_plan
from unet_jax.run.conversion import convert_weights
from unet_jax.run.predictor import Predictor

torch = pytest.importorskip("torch")
architectures = pytest.importorskip("dynamic_network_architectures.architectures.unet")

LABELS = {"background": 0, "cell": 1, "border": 2}


def build(plans, channels=1):
    """Returns nnU-Net's network of the only configuration of some plans."""
    (configuration,) = plans["configurations"].values()
    given = configuration["architecture"]
    kwargs = dict(given["arch_kwargs"])
    axes = len(configuration["patch_size"])
    kwargs["conv_op"] = getattr(torch.nn, f"Conv{axes}d")
    kwargs["norm_op"] = getattr(torch.nn, kwargs["norm_op"].rpartition(".")[2])
    kwargs["nonlin"] = torch.nn.LeakyReLU
    kind = given["network_class_name"].rpartition(".")[2]
    network = getattr(architectures, kind)
    network = network(channels, num_classes=3, deep_supervision=False, **kwargs)
    return randomise(network)


@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("axes", [2, 3])
def test_the_networks(tmp_path, axes, residual):
    plans = make_plans(axes, residual=residual)
    network = build(plans)
    fold = write_folder(tmp_path, plans, network, mirrored=(0, 1, 2)[:axes])
    assert recognise(fold.parent).path == fold / "checkpoint_final.pth"
    shape = (1, *(16, 32, 24)[-axes:])
    assert compare(network, fold, shape) < TOLERANCE


def test_a_network_of_transposed_volumes(tmp_path):
    """nnU-Net moves the axis with the largest spacing to the front."""
    plans = make_plans(3)
    plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]
    network = build(plans)
    fold = write_folder(tmp_path, plans, network, mirrored=(0, 1, 2))

    def forward(image):
        return network(image.permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)

    assert compare(forward, fold, (1, 32, 24, 16)) < TOLERANCE
    fields = recognise(fold).architecture.fields
    assert fields["crop"] == (16, 16, 8)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ZScoreNormalization", "CTNormalization"])
@pytest.mark.parametrize("shape", [(70, 50), (20, 61), (9, 26, 40)])
def test_predictions(tmp_path, monkeypatch, scheme, shape):
    """Probabilities of whole images: patches, normalisation, mirroring and blending.

    nnU-Net adds its tiles in float16, which would hide differences up to 0.01. Here it
    adds them in float32, with the same weights.
    """
    inference = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    axes = len(shape)
    plans = make_plans(axes, schemes=(scheme,))
    fold = write_folder(tmp_path, plans, build(plans), mirrored=tuple(range(axes)))
    convert_weights(fold, tmp_path / "run")
    monkeypatch.setattr(torch, "half", torch.float32)
    weigh = functools.partial(inference.compute_gaussian, dtype=torch.float16)
    monkeypatch.setattr(
        inference, "compute_gaussian", lambda *a, **k: weigh(*a, **k).float()
    )
    rng = np.random.default_rng(0)
    image = rng.integers(1, 256, shape, dtype=np.uint8)

    theirs = inference.nnUNetPredictor(
        device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    theirs.initialize_from_trained_model_folder(str(fold.parent), (0,))
    label, expected = theirs.predict_single_npy_array(
        image.reshape(1, -1, *shape[-2:]).astype(np.float32),
        {"spacing": [999.0 if axes == 2 else 1.0, 1.0, 1.0]},
        save_or_return_probabilities=True,
    )
    predictor = Predictor.load(tmp_path / "run")
    spacing = None if axes == 2 else (1.0, 1.0, 1.0)
    got = predictor.probabilities(image, spacing=spacing)
    assert got.shape == (*shape, 3)
    difference = np.abs(got - np.moveaxis(expected, 0, -1).reshape(got.shape))
    print(f"{scheme} {shape}: difference {difference.max():.1e}")
    assert difference.max() < TOLERANCE
    assert (
        predictor.labels(image, spacing=spacing) == label.reshape(shape)
    ).mean() > 0.999


def refuse(words, plans, labels=LABELS, name="2d"):
    channels = {"channel_names": {"0": "grey"}, "labels": labels}
    with pytest.raises(UserError, match=words) as caught:
        read_plan(plans, channels, name)
    assert "\n" not in str(caught.value)


def test_what_our_runs_cannot_do_is_refused_by_name():
    refuse("no configuration '3d_lowres'; it has 2d", make_plans(2), name="3d_lowres")
    refuse("use_mask_for_norm", make_plans(2, use_mask_for_norm=[True]))
    refuse("normalised by MyScheme", make_plans(2, schemes=("MyScheme",)))
    refuse("refines the result", make_plans(2, previous_stage="3d_lowres"))
    refuse("'tumour' is a region", make_plans(2), labels={"bg": 0, "tumour": [1, 2]})
    infinite = {"bg": 0, "a": float("inf")}
    refuse("labels are not numbers", make_plans(2), labels=infinite)
    refuse("must be 0, 1, 2, ..., not", make_plans(2), labels={"bg": 0, "a": 2})
    plans = make_plans(2)
    network = plans["configurations"]["2d"]["architecture"]
    network["network_class_name"] = "their.Transformer"
    refuse("its network is their.Transformer", plans)
    plans = make_plans(2)
    arguments = plans["configurations"]["2d"]["architecture"]["arch_kwargs"]
    arguments["dropout_op"] = "torch.nn.Dropout2d"
    refuse("has dropout_op=torch.nn.Dropout2d", plans)
    plans = make_plans(2)
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    refuse("read by NibabelIOWithReorient", plans)
    plans = make_plans(2, patch_size="large")
    refuse("plans.json is not valid", plans)


def test_values_in_a_checkpoint_that_are_no_plans_are_one_line(tmp_path):
    """A pickle can refer to one object many times, and to an object from itself."""
    nested, shared, cycle = [], ["x"], []
    for _ in range(3000):
        nested = [nested]
    for _ in range(40):
        shared = [shared, shared]
    cycle.append(cycle)
    inner = dict.fromkeys(map(str, range(9000)), 1)
    wide = {"configurations": dict.fromkeys(map(str, range(9000)), inner)}
    path = tmp_path / "x.pth"
    for key in ("plans", "mirrored"):
        for value in (nested, shared, cycle, wide, [[0], [1]], [0]):
            given = {"plans": make_plans(2), "mirrored": (0, 1)} | {key: value}
            content = {
                "network_weights": {"a": torch.zeros(1)},
                "init_args": {
                    "plans": given["plans"],
                    "dataset_json": {"channel_names": {"0": "x"}, "labels": LABELS},
                    "configuration": "2d",
                },
                "inference_allowed_mirroring_axes": given["mirrored"],
            }
            torch.save(content, path)
            with pytest.raises(UserError) as caught:
                recognise(path)
            assert len(str(caught.value).splitlines()) == 1


def test_the_task_of_a_plan_cannot_be_changed(tmp_path):
    plans = make_plans(2)
    fold = write_folder(tmp_path, plans, build(plans), mirrored=(0, 1))
    with pytest.raises(UserError, match="--task=multilabel: .*; leave --task out"):
        convert_weights(fold, tmp_path / "run", task="multilabel")


def test_an_ignored_label_is_no_class():
    channels = {"channel_names": {"0": "grey"}, "labels": {**LABELS, "ignore": 3}}
    plan = read_plan(make_plans(2), channels, "2d")
    assert plan.classes == ("background", "cell", "border")


def test_a_folder_of_several_folds_is_refused(tmp_path):
    (tmp_path / "plans.json").write_text(json.dumps(make_plans(2)))
    for name in ("fold_0", "fold_1"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="name one of them: .*fold_0"):
        recognise(tmp_path)
    with pytest.raises(UserError, match=r"has no checkpoint_final.pth"):
        recognise(tmp_path / "fold_1")


@pytest.mark.parametrize("axes", [2, 3])
def test_older_plans_describe_the_same_network(axes):
    """nnU-Net 2.0 to 2.3: 32 channels at first, doubled at each level."""
    plans = make_plans(axes)
    (configuration,) = plans["configurations"].values()
    arguments = configuration["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [32, 64, 100]
    channels = {"channel_names": {"0": "grey"}, "labels": LABELS}
    name = "2d" if axes == 2 else "3d_fullres"
    expected = read_plan(plans, channels, name)
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "unet_max_num_features": 100,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": arguments["strides"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
    }
    assert read_plan(plans, channels, name).network == expected.network


def test_a_configuration_inherits_from_another():
    plans = make_plans(2)
    plans["configurations"]["small"] = {"inherits_from": "2d", "patch_size": [16, 16]}
    channels = {"channel_names": {"0": "grey"}, "labels": LABELS}
    plan = read_plan(plans, channels, "small")
    assert plan.fields["predict.tile"] == (16, 16)
    assert plan.network == read_plan(plans, channels, "2d").network
