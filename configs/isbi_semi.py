"""ISBI 2012 with a mean teacher: three labelled and fifteen unlabelled slices.

Paper     Tarvainen and Valpola 2017: Mean teachers are better role models;
          arXiv:1703.01780. The network is that of Ronneberger et al. 2015
Data      the folds of configs/isbi.py; of the 18 training slices three evenly spaced
          ones keep their labels (7, 17 and 27 in fold 0), the other 15 are unlabelled
Command   python main.py --config=configs/isbi_semi.py --config.data.manual_dir=DIR

Measured  with 500 steps, ramp_up=200, three seeds: Dice of membranes 0.795, pixel error
          0.096; the baseline below 0.801 and 0.092 (2026-11-26, 2 shared CPU cores, jax
          0.10.2, commit 994ed1b). experiments/few_images has other numbers of slices.
          Not measured with all 3000 steps

Baseline: --config.method.name=supervised --config.ema=0.99 trains on the same three
slices and predicts with averaged parameters like the teacher. All four examples of its
batches are labelled; the mean teacher has two labelled and two unlabelled ones.
Upper bound: --config.data.labelled=0 added to the baseline trains on all 18 slices.
Options: --config.method="{'name':'mean_teacher','consistency':10.0}".

Network, crops and schedule are those of configs/isbi_modern.py, which a CPU can train.
"""

from ml_collections import ConfigDict

from unet_jax.configs import isbi_modern


def get_config() -> ConfigDict:
    """Returns a mean teacher with the network of isbi_modern."""
    config = isbi_modern.get_config()
    config.name = "isbi_semi"
    config.data.labelled = 3  # training slices that keep their labels; 0: all
    config.method = ConfigDict({"name": "mean_teacher"})  # 2 labelled, 2 unlabelled
    config.model.dropout = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 1e-4
    config.predict.tta = "none"
    return config
