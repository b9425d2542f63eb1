"""nnU-Net's recipe for volumes, with its plain or its residual encoder.

Paper     Isensee et al. 2021, Nat. Methods 18:203; residual encoder: Isensee et al.
          2024, arXiv:2404.09556; versions as in configs/nnunet2d.py
Data      as for configs/folder.py: volumes (NIfTI, TIFF stacks, OME-Zarr)
Command   python main.py --config=configs/nnunet3d.py --config.data.root=DIR
          residual encoder: --config=configs/nnunet3d.py:residual
          volumes of about 35 x 50 x 36 (hippocampus): --config.crop=40,56,40
          --config.batch_size=9 --config.model.widths=32,64,128,256
Hardware  one GPU with 10 GB, for which nnU-Net plans crops of this size
Measured  not yet

The recipe and the departures are those of configs/nnunet2d.py, with up to 320 channels,
crops of 128 x 128 x 128, two of them a batch, and rotations by up to 30 degrees about
each axis. nnU-Net also resamples all volumes to their median spacing: --mode=inspect
finds it.
For thick slices (a crop more than 3 times as wide as deep), nnU-Net augments in the
plane of the slices, and has strides and kernels of 1 across them at the first levels:
'--config.augment[0].degrees=180' '--config.augment[0].axes=1,2'
'--config.augment[1].axes=1,2' '--config.augment[6].axes=1,2'
--config.model.strides="((1,2,2),(2,2,2),(2,2,2),(2,2,2),(1,2,2))"
--config.model.kernels="((1,3,3),(3,3,3),(3,3,3),(3,3,3),(3,3,3),(3,3,3))"
nnU-Net sums Dice over the batch only if the volumes are so large that it also plans a
network of low resolution; for smaller ones set '--config.loss[1].batch=False'.
"""

from ml_collections import ConfigDict

from unet_jax.configs import nnunet2d


def get_config(encoder: str = "plain") -> ConfigDict:
    """Returns nnU-Net's recipe for volumes of 128 pixels along each axis, or more.

    Args:
      encoder: 'plain' or 'residual'.

    Raises:
      UserError: there is no such encoder.
    """
    config = nnunet2d.get_config()
    config.name = "nnunet3d"
    config.batch_size = 2
    config.crop = (128, 128, 128)
    config.data.axes = 3
    config.model.widths = (32, 64, 128, 256, 320, 320)
    config.augment[0].degrees = 30.0
    nnunet2d.set_encoder(config, encoder)
    return config
