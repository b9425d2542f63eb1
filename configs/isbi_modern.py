"""ISBI 2012 on a small machine: today's usual recipe instead of the paper's.

Paper     Ronneberger et al. 2015 for the network; the recipe is that of
          experiments/isbi_ablation, which changes one part of it at a time
Data      the folds of configs/isbi.py
Command   python main.py --config=configs/isbi_modern.py --config.data.manual_dir=DIR

Measured  five folds, one seed, 2026-11-27: V_rand 0.968 (0.928 to 0.984), V_info 0.982
          (0.975 to 0.987), pixel error 0.079 (0.076 to 0.083). A fold took 17 minutes
          of two CPU cores. experiments/isbi_modern has the command and all scores, and
          experiments/against_peers compares it with other tools

Other than in configs/isbi.py: SAME padding and batch norm, four levels of 16 to 128
channels (0.5 M parameters), no dropout; four crops of 192 pixels a step; all pixels
have the same weight; cross-entropy plus Dice; AdamW with a cosine schedule; only flips
and quarter turns; 3000 steps, which two CPU cores take in 17 to 20 minutes. A test
image is the mean of eight views.
"""

from ml_collections import ConfigDict

from unet_jax.configs import isbi


def get_config() -> ConfigDict:
    """Returns the recipe of a U-Net of 0.5 M parameters."""
    config = isbi.get_config()
    config.name = "isbi_modern"
    config.steps = 3000
    config.batch_size = 4
    config.crop = (192, 192)
    config.eval_every = config.checkpoint_every = 500
    config.weight_map = ConfigDict({"name": "uniform"})
    config.model.update(
        {
            "widths": (16, 32, 64, 128),
            "padding": "SAME",
            "norm": "batch",
            "dropout": 0.0,
        }
    )
    config.loss = (
        ConfigDict({"name": "cross_entropy", "scale": 1.0}),
        ConfigDict({"name": "dice", "scale": 1.0, "smooth": 1.0}),
    )
    config.augment = (ConfigDict({"name": "flip"}), ConfigDict({"name": "turn"}))
    config.optimizer = ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "clip": 1.0,
        }
    )
    config.schedule = ConfigDict({"name": "cosine", "warmup": 100})
    config.predict.tta = "d4"
    return config
