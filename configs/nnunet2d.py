"""nnU-Net's recipe for images, with its plain or its residual encoder.

Paper     Isensee et al. 2021, Nat. Methods 18:203; residual encoder: Isensee et al.
          2024, arXiv:2404.09556. The numbers are those of nnunetv2 2.8.1 (commit
          0e49508) and batchgeneratorsv2 0.3.6
Data      as for configs/folder.py; any other data set through --config.data
Command   python main.py --config=configs/nnunet2d.py --config.data.root=DIR
          residual encoder: --config=configs/nnunet2d.py:residual
          on a small machine, with the crop, batch and steps that fit it:
          --mode=inspect first, then --config=runs/nnunet2d/plan.py
Hardware  one GPU with 10 GB, for which nnU-Net plans crops of this size
Measured  not yet

nnU-Net fits the crop, the batch and the levels to each data set. The values here are
its plan for images of 512 x 512: each level halves the image, to 4 pixels at the
lowest one. The loss is cross-entropy plus Dice over the whole batch. The first two
thirds of a batch are cut from anywhere, the last third around the foreground.

Departures, where numbers are the same but not what is done with them:
- Factors (scale, brightness, contrast, gamma) are log-uniform; nnU-Net's are uniform,
  and half of its factors of intensities are below 1. The standard deviation of a blur
  differs between channels, but not between axes.
- Pixels beyond the crop are mirrored. nnU-Net rotates a larger crop, with zeros beyond
  the image. Turned labels take the nearest pixel instead of the class with the most.
- A crop contains its pixel of the foreground anywhere, not in the middle. Images take
  turns; nnU-Net draws each one at random.
- Biases and norms have no weight decay. The learning rate falls at every step, not
  after every 250 of them.
- The mean over tiles and views is one of probabilities, not of logits. The best
  checkpoint of the validation is used, not the last one.
- float32: set --config.precision=bfloat16 on a GPU (nnU-Net: float16).
As in nnU-Net, crops that are no more than 1.5 times as long as wide are rotated by all
angles; for others set --config.augment[0].degrees=15. What nnU-Net calls the variance
of its noise is used there as the standard deviation, and so it is here.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base, folder
from unet_jax.errors import UserError


def get_config(encoder: str = "plain") -> ConfigDict:
    """Returns nnU-Net's recipe for images of about 512 x 512.

    Args:
      encoder: as in `set_encoder`.

    Raises:
      UserError: there is no such encoder.
    """
    config = base.get_config()
    config.name = "nnunet2d"
    config.steps = 250_000  # 1000 epochs of 250
    config.batch_size = 12
    config.crop = (512, 512)
    config.log_every = 250
    config.eval_every = config.checkpoint_every = 2500
    config.data = folder.get_config().data
    config.sampling = ConfigDict({"name": "foreground", "probability": 1.0})
    config.sampling_share = 0.33
    config.model.update(
        {
            "widths": (32, 64, 128, 256, 512, 512, 512, 512),
            "norm": "instance",
            "conv_bias": True,
            "activation": "leaky_relu",
            "negative_slope": 0.01,
            "downsample": "conv",
            "deep_supervision": True,
        }
    )
    config.supervise_coarsest = False
    config.loss = (
        ConfigDict({"name": "cross_entropy", "scale": 1.0}),
        ConfigDict(
            {
                "name": "dice",
                "scale": 1.0,
                "smooth": 1e-5,
                "background": False,
                "batch": True,
            }
        ),
    )
    config.augment = tuple(map(ConfigDict, AUGMENT))
    config.optimizer = ConfigDict(
        {
            "name": "sgd",
            "learning_rate": 1e-2,
            "momentum": 0.99,
            "nesterov": True,
            "weight_decay": 3e-5,
            "clip": 12.0,
        }
    )
    config.schedule = ConfigDict({"name": "polynomial", "power": 0.9, "warmup": 0})
    config.predict.tile = config.get_ref("crop")
    config.predict.tiling = "nnunet"
    config.predict.tta = "flips"
    set_encoder(config, encoder)
    return config


# In nnU-Net's order. It reads positions times a factor of 0.7 to 1.4, which magnifies
# by the inverse.
AUGMENT = (
    {"name": "rotation", "degrees": 180.0, "axes": (), "probability": 0.2},
    {"name": "scale", "low": 1 / 1.4, "high": 1 / 0.7, "axes": (), "probability": 0.2},
    {"name": "noise", "sigma": 0.1, "probability": 0.1},
    {
        "name": "blur",
        "low": 0.5,
        "high": 1.0,
        "channel_probability": 0.5,
        "probability": 0.2,
    },
    {
        "name": "multiplicative_brightness",
        "low": 0.75,
        "high": 1.25,
        "probability": 0.15,
    },
    {
        "name": "contrast",
        "low": 0.75,
        "high": 1.25,
        "preserve_range": True,
        "probability": 0.15,
    },
    {
        "name": "low_resolution",
        "low": 0.5,
        "high": 1.0,
        "axes": (),
        "channel_probability": 0.5,
        "probability": 0.25,
    },
    {
        "name": "gamma",
        "low": 0.7,
        "high": 1.5,
        "invert": True,
        "retain_stats": True,
        "probability": 0.1,
    },
    {
        "name": "gamma",
        "low": 0.7,
        "high": 1.5,
        "retain_stats": True,
        "probability": 0.3,
    },
    {"name": "flip"},
)


def set_encoder(config: ConfigDict, encoder: str) -> None:
    """Sets the encoder of a config of nnU-Net, for the levels of its widths.

    Args:
      config: the config, of the plain encoder.
      encoder: 'plain' or 'residual'.

    Raises:
      UserError: there is no such encoder.
    """
    if encoder not in ("plain", "residual"):
        raise UserError(
            f"--config: nnU-Net has no encoder {encoder!r}; write "
            f"configs/{config.name}.py:residual, or leave it out for the plain one"
        )
    if encoder == "residual":
        config.name += "_residual"
        levels = len(config.model.widths)
        config.model.encoder = encoder
        config.model.encoder_depths = (1, 3, 4, *(6,) * levels)[:levels]
        config.model.decoder_depths = (1,)
