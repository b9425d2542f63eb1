"""Nuclei of the 2018 Data Science Bowl: many microscopes, tested on unseen kinds.

Paper     Caicedo et al. 2019, Nat. Methods 16:1247: the challenge; its ranking used a
          second stage with other images
Data      BBBC038 stage1_train, 670 images of 256 x 256 to 1040 x 1388. Many images are
          crops of the same field. So each kind of image (its size, and grey or colour)
          is in one split only, and the scores are those of unseen kinds
Command   python main.py --config=configs/dsb2018.py --config.data.manual_dir=DIR

Measured  nothing yet. --config.data.grouped=False splits within each kind, as most
          published splits do; its scores are higher in part because train and test
          images show the same fields.

The network of base.py, a quarter as wide, with batch norm and the border weight map,
which gives large weights to the background between nuclei. It has no class weight: a
class weight lowers the average precision of nuclei (experiments/border_weight).
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a U-Net of 1.9 M parameters for crops of 256 x 256."""
    config = base.get_config()
    config.name = "dsb2018"
    config.steps = 10_000
    config.batch_size = 8
    config.crop = (256, 256)
    config.eval_every = config.checkpoint_every = 1000
    config.data = ConfigDict(
        {
            "name": "dsb2018",
            "grouped": True,  # keep each kind of image in one split
            "val": 0.1,  # of the images
            "test": 0.2,
            "seed": 0,  # of the split
            "channels": 3,  # or 1: grey, by the luma
            "manual_dir": "",  # folder of stage1_train.zip; empty: download it
            "data_dir": "",  # folder of the prepared data; empty: the TFDS default
        }
    )
    config.weight_map = ConfigDict(
        {"name": "border", "w0": 10.0, "sigma": 5.0, "balance": False}
    )
    config.model.widths = (16, 32, 64, 128, 256)
    config.predict.channels = "convert"
    config.metrics = (
        ConfigDict({"name": "average_precision"}),  # over IoU 0.5 to 0.95
        ConfigDict({"name": "f1"}),
        ConfigDict({"name": "aggregated_jaccard"}),
        ConfigDict({"name": "dice"}),
        ConfigDict({"name": "iou"}),
        ConfigDict({"name": "calibration_error"}),
    )
    return config
