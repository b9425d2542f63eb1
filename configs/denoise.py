"""Denoising: a U-Net learns to map noisy to clean images of synthetic cells.

Paper     Weigert et al. 2018, Content-aware image restoration, Nat. Methods 15:1090:
          a U-Net trained on pairs; the loss is that of Lai et al. 2017 (LapSRN)
Data      synthetic pairs of 128 x 128, nothing to download: 64 to train on, 8 to
          validate, 16 to test
Command   python main.py --config=configs/denoise.py

Measured  the 16 test images after 500 steps, one seed: PSNR 28.2 dB, SSIM 0.884, mean
          absolute error 6.2 grey values. The noisy images have 18.5 dB, 0.318 and 22.1;
          a Gaussian blur of sigma 1 px reaches 27.3 dB, 0.79 and 7.7, one of 1.5 px
          26.9 dB, 0.84 and 7.6 (2026-11-26, 2 shared CPU cores, jax 0.10.2)

Target and prediction are scaled like the noisy image, so results are in the units of
its file. For your own pairs, change config.data and config.crop.

Augmentation only moves whole pixels. It does not change values, because the noise
depends on the brightness, and because noisy and clean image must change together. It
does not interpolate, because averaging neighbours removes noise.

PSNR and SSIM use the range of each clean image. Set `data_range=255` to compare with
published numbers for 8-bit images.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a network of 0.5 M parameters that trains in minutes on a laptop."""
    config = base.get_config()
    config.name = "denoise"
    config.steps = 500
    config.eval_every = config.checkpoint_every = 100
    config.data = ConfigDict(
        {
            "name": "cells",
            "targets": True,  # clean images
            "photons": 20.0,  # of the brightest pixels: fewer photons, more noise
            "shape": (128, 128),  # pixels per axis; three axes make volumes
            "train": 64,
            "val": 8,
            "test": 16,
        }
    )
    config.task = ConfigDict({"name": "regression"})
    config.model.widths = (16, 32, 64, 128)
    # Batch norm loses the range of the values (Lim et al. 2017, EDSR, section 3.1).
    config.model.norm = "none"
    config.loss = (ConfigDict({"name": "charbonnier"}),)
    config.augment = (ConfigDict({"name": "flip"}), ConfigDict({"name": "turn"}))
    config.metrics = (
        ConfigDict({"name": "psnr"}),  # chooses the best checkpoint
        ConfigDict({"name": "ssim"}),
        ConfigDict({"name": "mae"}),
    )
    return config
