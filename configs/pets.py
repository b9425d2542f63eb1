"""Photographs of cats and dogs in three classes: a TFDS data set by its name.

Paper     Parkhi et al. 2012, Cats and dogs, CVPR: the data set, without a U-Net
Data      oxford_iiit_pet: 3680 photographs of the original trainval split, of which a
          tenth validates, and 3669 to test. Classes: pet, background and the border
          between them
Command   python main.py --config=configs/pets.py --config.data.manual_dir=DIR
          DIR holds images.tar.gz and annotations.tar.gz

Measured  nothing yet

The network of base.py, half as wide. Data in `data_dir` is read, even if another
program has prepared it. For another TFDS data set with an image and a mask, prepare it
as array_record and change the fields of config.data.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a U-Net of 7.8 M parameters for crops of 256 x 256."""
    config = base.get_config()
    config.name = "pets"
    config.steps = 20_000
    config.batch_size = 16
    config.crop = (256, 256)
    config.eval_every = config.checkpoint_every = 2000
    config.data = ConfigDict(
        {
            "name": "tfds",
            "dataset": "oxford_iiit_pet",  # or name/config, or name/config:version
            "image": "image",  # names of features
            "mask": "segmentation_mask",
            "id": "file_name",  # '': numbered
            "splits": ("train", "test"),  # or all three, or one to split
            "val": 0.1,  # share of the first split, if no validation split is named
            "seed": 0,  # of this draw
            "label_map": ((1, 1), (2, 0), (3, 2)),  # (value of the mask, class id)
            "ignore_label": -1,  # the mask value of unannotated pixels; -1: none
            "classes": ("background", "pet", "border"),
            "background": True,  # class 0 is; False: all classes count in the scores
            "colours": ((40, 40, 40), (240, 180, 60), (90, 160, 230)),
            "manual_dir": "",  # folder of the two archives; empty: download them
            "data_dir": "",  # folder of the prepared data; empty: the TFDS default
        }
    )
    config.model.widths = (32, 64, 128, 256, 512)
    config.predict.channels = "convert"
    return config
