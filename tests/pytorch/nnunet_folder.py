"""Writes a folder as nnU-Net v2 leaves it after training, with random weights."""

import json

import numpy as np

FEATURES = (4, 6, 8)


def make_plans(axes, *, residual=False, schemes=("ZScoreNormalization",), **changes):
    """Returns plans.json with one configuration."""
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    depths = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    name = "2d" if axes == 2 else "3d_fullres"
    kernels = [[3] * axes, [3] * axes, [3] * axes]
    kernels[0][0] = 1 if axes == 3 else 3
    strides = [[1] * axes, [2] * axes, [2] * axes]
    strides[1][0] = 1 if axes == 3 else 2
    arguments = {
        "n_stages": 3,
        "features_per_stage": list(FEATURES),
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": kernels,
        "strides": strides,
        depths: [1, 2, 2] if residual else [2, 2, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    functions = {
        f"resampling_fn_{part}": "resample_data_or_seg_to_shape"
        for part in ("data", "seg", "probabilities")
    }
    functions |= {
        f"resampling_fn_{part}_kwargs": resampling
        for part in ("data", "seg", "probabilities")
    }
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 24] if axes == 2 else [8, 16, 16],
        "median_image_size_in_voxels": [64.0] * axes,
        "spacing": [1.0] * axes,
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": [False] * len(schemes),
        **functions,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
            f"{kind}",
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
        **changes,
    }
    properties = {"max": 250.0, "min": 0.0, "median": 120.0}
    properties |= {"mean": 120.0, "std": 40.0}
    properties |= {"percentile_00_5": 30.0, "percentile_99_5": 200.0}
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [999.0 if axes == 2 else 1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [1, 64, 64],
        "image_reader_writer": "NaturalImage2DIO" if axes == 2 else "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(i): properties for i in range(len(schemes))
        },
    }


def write_folder(root, plans, network, *, mirrored):
    """Writes plans.json, dataset.json and fold_0/checkpoint_final.pth; returns both."""
    import torch

    (name,) = plans["configurations"]
    schemes = plans["configurations"][name]["normalization_schemes"]
    data_set = {
        "channel_names": {str(i): f"channel{i}" for i in range(len(schemes))},
        "labels": {"background": 0, "cell": 1, "border": 2},
        "numTraining": 4,
        "file_ending": ".png" if name == "2d" else ".nii.gz",
    }
    fold = root / f"nnUNetTrainer__nnUNetPlans__{name}/fold_0"
    fold.mkdir(parents=True)
    (fold.parent / "plans.json").write_text(json.dumps(plans))
    (fold.parent / "dataset.json").write_text(json.dumps(data_set))
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "lrs": [np.float32(0.1)]},
        "_best_ema": np.float64(0.75),
        "curve": np.arange(3.0),
        "current_epoch": 1000,
        "init_args": {
            "plans": plans,
            "configuration": name,
            "fold": 0,
            "dataset_json": data_set,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirrored,
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    return fold
