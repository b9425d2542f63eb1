"""Image generation: a diffusion model of the synthetic cells.

Paper     Ho et al. 2020, arXiv:2006.11239. Noise schedule and sampling in fewer steps:
          Nichol and Dhariwal 2021, arXiv:2102.09672. Velocity: Salimans and Ho 2022,
          arXiv:2202.00512. Sampling without fresh noise: Song et al. 2021,
          arXiv:2010.02502
Data      1000 images of 64 x 64 to train on, 32 to validate, 32 to test; labels are not
          used
Command   python main.py --config=configs/generate.py

Measured  the velocity loss of the 32 validation images is 0.4015 after 1500 steps
          (2026-11-26, 2 shared CPU cores, jax 0.10.2, one seed). Generated images look
          like the real ones, with less round outlines: experiments/generation

As in the papers: 1000 noise steps, a time embedding, group norm, and an average of the
parameters.
Departures, for two CPU cores, with the numbers of Ho et al. in brackets: 1.4 M
parameters without attention (36 M); 1500 updates (800,000), so a learning rate that
falls from 1e-3 (2e-4) and an average over fewer updates. Images are standardised, not
scaled to -1..1, so sampling does not clip them.
The method has its own loss, the mean squared error of the velocity; `loss` is not used.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a small diffusion model."""
    config = base.get_config()
    config.name = "generate"
    config.steps = 1500
    config.batch_size = 16
    config.crop = (64, 64)
    config.log_every = 50
    config.eval_every = config.checkpoint_every = 500
    config.data = ConfigDict(
        {
            "name": "cells",
            "shape": (64, 64),  # pixels per axis
            "train": 1000,  # images
            "val": 32,
            "test": 32,
            "diameter": 16.0,  # pixels; an image has about ten cells
        }
    )
    config.task = ConfigDict({"name": "regression", "target": "image"})
    config.method = ConfigDict(
        {
            "name": "diffusion",
            "steps": 1000,  # noise steps
            "schedule": "cosine",  # noise schedule; or linear
            "predict": "velocity",  # or noise
            "sampling_steps": 100,
            "eta": 0.0,  # share of fresh noise in sampling; 1: Ho et al.
            "clip": 0.0,  # limit of the image values in sampling; 0: none
        }
    )
    config.model.update(
        {
            "widths": (32, 64, 128, 128),
            "norm": "group",
            "activation": "silu",
            "time_features": 32,
        }
    )
    config.loss = (ConfigDict({"name": "l2"}),)
    config.augment = (ConfigDict({"name": "flip"}), ConfigDict({"name": "turn"}))
    config.optimizer = ConfigDict(
        {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-4, "clip": 1.0}
    )
    config.schedule = ConfigDict({"name": "cosine", "warmup": 100})
    config.ema = 0.999
    config.metrics = ()
    return config
