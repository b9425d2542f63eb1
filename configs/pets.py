"""Cats and dogs: photographs, three classes, a data set of TFDS by its name.

Paper     Parkhi et al. 2012, Cats and dogs, CVPR: the data set; no U-Net in it
Data      oxford_iiit_pet: of the 3680 photographs of the publisher's trainval a tenth
          validates; 3669 test. Trimaps: pet, background and a border between them
Command   python main.py --config=configs/pets.py --config.data.manual_dir=DIR
          DIR holds images.tar.gz and annotations.tar.gz

Measured  nothing yet

The network of base.py, half as wide. What `data_dir` has of the set is read whoever
prepared it; any other set of TFDS with an image and a mask is a change of the fields of
config.data, once it is on the disk as array_record.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """A U-Net of 7.8 M parameters for crops of 256 x 256."""
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
            "id": "file_name",  # ''; numbered
            "splits": ("train", "test"),  # or all three, or one to draw all from
            "val": 0.1,  # of the first split, where none is named to validate
            "seed": 0,  # of that draw
            "label_map": ((1, 1), (2, 0), (3, 2)),  # (value of the mask, class id)
            "ignore_label": -1,  # the mask value where nobody annotated; -1: none
            "classes": ("background", "pet", "border"),
            "colours": ((40, 40, 40), (240, 180, 60), (90, 160, 230)),
            "manual_dir": "",  # where the two archives lie; else downloaded
            "data_dir": "",  # of the prepared data; else the TFDS default
        }
    )
    config.model.widths = (32, 64, 128, 256, 512)
    config.predict.channels = "convert"
    return config
