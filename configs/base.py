"""Every field of every config, once, with what it means.

The other configs call `get_config` and state their differences. Each field can be set
from the command line: `--config.steps=20`, `--config.model.widths=8,16,32`,
`'--config.loss[1].smooth=0.1'`, `--config.augment="()"`, or a whole spec at once,
`--config.parallel="{'name':'mesh','space':2}"`, which replaces all of the old one: what
it does not name is as the function's signature has it.

A spec is a `name` with its keyword arguments: the name of a public function of the
module that its field belongs to. Ordered things are tuples of specs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The paper's network with today's habits: SAME padding, Adam, CE + Dice."""
    config = ConfigDict()

    config.name = "base"  # the run folder is runs/<name>
    config.seed = 0  # of everything random: initial weights, order, crops, augmentation
    config.steps = 1000  # updates of the parameters
    config.batch_size = 8  # examples per step, over all devices
    config.crop = (128, 128)  # pixels that the network sees in training, per axis
    config.log_every = 20  # steps between lines of training scalars
    config.eval_every = 200  # steps between evaluations on the validation split
    config.checkpoint_every = 200  # steps between checkpoints

    # unet_jax/data: where images and labels come from, and what is made of them
    config.data = ConfigDict({"name": "cells"})
    # the size of a pixel, per axis and in the files' units, that images are resampled
    # to; scores are those of the files' own pixels. (): images as they are
    config.spacing = ()
    config.normalize = ConfigDict({"name": "standard"})  # standard | unit | percentile
    # uniform | border (eq. 2) | frequency: rare classes count more
    config.weight_map = ConfigDict({"name": "uniform"})
    # uniform: crops from anywhere | foreground, with a probability | balanced: around
    # a pixel of a class, each class as often
    config.sampling = ConfigDict({"name": "uniform"})
    config.cache = 4.0  # GiB of prepared examples that a process keeps in memory
    config.threads = 2  # that cut crops ahead of the step

    # unet_jax/models
    config.model = ConfigDict(
        {
            "name": "UNet",
            "widths": (64, 128, 256, 512, 1024),  # channels per level, finest first
            "padding": "SAME",  # VALID: the paper's, the output is smaller
            "norm": "batch",  # none | batch | group | instance
            "conv_bias": False,  # a bias in convolutions before a norm, too
            "activation": "relu",  # any of jax.nn
            "negative_slope": 0.01,  # of leaky_relu
            "encoder": "plain",  # or residual: a stem, and blocks with shortcuts
            # of each level, finest first; one entry, also of the axes, goes for all
            "encoder_depths": (2,),  # convolutions, or residual blocks
            "decoder_depths": (2,),  # convolutions; one level fewer
            "strides": ((2,),),  # to the next level, per axis: ((1, 2, 2), (2, 2, 2))
            "kernels": ((3,),),  # sizes of the convolutions, per axis
            "downsample": "pool",  # or conv: the stride of a level's first convolution
            "upsample": "transpose",  # transpose | nearest | linear
            "dropout": 0.0,  # at the end of the contracting path
            "residual": False,  # a shortcut in every plain block
            "attention": False,  # a gate on every skip
            "deep_supervision": False,  # a loss at every level of the expanding path
            "time_features": 0,  # of the embedding of a diffusion's time; 0: no time
            "remat": False,  # recompute blocks in the backward pass, to save memory
        }
    )
    config.head = "softmax"  # exclusive classes; sigmoid: independent ones
    # or bfloat16, with float32 parameters and logits. In float32, too, a TPU multiplies
    # in fewer bits, and an NVIDIA GPU since Ampere, unless the environment says
    # JAX_DEFAULT_MATMUL_PRECISION=highest
    config.precision = "float32"

    # unet_jax/losses.py: their sum, each times its scale; scale 0 leaves one out
    config.loss = (
        ConfigDict({"name": "cross_entropy", "scale": 1.0}),
        ConfigDict({"name": "dice", "scale": 1.0, "smooth": 1.0}),
    )

    # unet_jax/augment: in this order, each with its probability (1 unless it says)
    config.augment = (
        ConfigDict({"name": "flip"}),
        ConfigDict({"name": "rotation", "degrees": 180.0, "probability": 0.5}),
        ConfigDict({"name": "scale", "low": 0.8, "high": 1.25, "probability": 0.5}),
        ConfigDict({"name": "brightness", "sigma": 0.1}),
        ConfigDict({"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5}),
    )

    # unet_jax/optimizers.py, and unet_jax/schedules.py: constant | cosine | polynomial
    # | exponential
    config.optimizer = ConfigDict(
        {
            "name": "adam",  # sgd | adam | adamw | lamb
            "learning_rate": 1e-3,  # the peak of the schedule
            "weight_decay": 0.0,  # not on biases and norms
            "clip": 1.0,  # bound on the norm of the gradient; 0: none
        }
    )
    config.schedule = ConfigDict(
        {"name": "cosine", "warmup": 50}
    )  # steps, at most half
    config.ema = 0.0  # decay of an average of the parameters to evaluate with; 0: none

    # unet_jax/parallel.py: pmap, or mesh with `space` devices to one image
    config.parallel = ConfigDict({"name": "pmap"})

    # unet_jax/metrics: the highest of the first one chooses the best checkpoint
    config.metrics = (
        ConfigDict({"name": "dice"}),
        ConfigDict({"name": "iou"}),
        ConfigDict({"name": "precision"}),
        ConfigDict({"name": "recall"}),
        ConfigDict({"name": "accuracy"}),
        ConfigDict({"name": "pixel_error"}),
        ConfigDict({"name": "surface_dice", "tolerance": 1.0}),  # pixels, or spacing's
        ConfigDict({"name": "hausdorff95"}),
        ConfigDict({"name": "calibration_error"}),
        ConfigDict({"name": "brier"}),
    )

    # how images are segmented, by --mode=predict and in the scores of the test split
    config.predict = ConfigDict(
        {
            "tta": "none",  # none | flips | rot4 | d4 | paper: views to average over
            "tile": (),  # pixels per axis, of the largest; (): as the memory allows
            "batch": 0,  # tiles at a time; 0: as the memory allows
            "channels": "exact",  # convert: grey to RGB, or RGB to grey
            "save_probabilities": False,  # as a float32 TIFF
            "save_uncertainty": False,  # likewise
            "postprocess": (),  # unet_jax/postprocess.py, specs in this order
        }
    )
    return config
