"""Your own images and masks.

Paper     none; a U-Net of medium size with the defaults of configs/base.py
Data      a folder with images/ and masks/, whose files share their stems; or a folder
          with train/, val/ and test/ that contain these. Optional, also instead of
          masks/: instances/ (object ids) and targets/ (images to be predicted).
          Optional too: unlabelled/ (images without labels)
Command   python main.py --config=configs/folder.py --config.data.root=DIR
          and before it the same command with --mode=inspect
Measured  nothing, since every folder is different

--mode=inspect trains nothing. It reports mistakes in the data and writes a plan, a
config for this folder: `python main.py --config=runs/folder/plan.py`. The values below
suit images with an edge of a few hundred pixels.
"""

from ml_collections import ConfigDict

from unet_jax.configs import base


def get_config() -> ConfigDict:
    """Returns a U-Net of medium size for images of a folder."""
    config = base.get_config()
    config.name = "folder"
    config.steps = 2000
    config.batch_size = 8
    config.crop = (256, 256)
    config.eval_every = config.checkpoint_every = 500
    config.data = ConfigDict(
        {
            "name": "folder",
            "root": "",
            # folders or globs in the root; the wildcards of globs pair files, such as
            # 'raw/*_img.tif' with 'drawn/*_mask.png'
            "images": "images",
            "masks": "masks",
            "instances": "instances",  # object ids
            "targets": "targets",  # images to be restored or predicted
            "unlabelled": "unlabelled",  # images without labels
            "axes": 2,  # 3: volumes; then the crop needs three sizes
            # order of the axes of TIFF files that do not state it: 'CYX', 'ZYX', 'YXC'
            "tiff_axes": "",
            "channels": 0,  # 1: convert to grey; 3: to RGB; 0: choose by the files
            "classes": (),  # names by id, the background first; (): from the masks
            "background": True,  # class 0 is; False: all classes count in the scores
            "colours": (),  # (red, green, blue) of each class
            # pairs of a mask value or colour and a class: ((0,0),(255,1)) or
            # (((255,0,0),'cell'),)
            "label_map": (),
            "ignore_label": -1,  # mask value of pixels without annotation; -1: none
            "multilabel": False,  # each channel of a mask is a class
            "spacing": (),  # size of a pixel, for files without it
            "val": 0.15,  # shares of the images, for a folder without splits
            "test": 0.15,
            "folds": 0,  # cross-validation instead of shares
            "fold": 0,
            "group": "",  # pattern of what files of a patient share: 'case_([0-9]+)'
            "series": "together",  # apart: consecutive images need not stay together
            "seed": 0,  # of the split
            "split": "",  # the split.json of another run
            "leaks": "refuse",  # allow: accept the same image in two splits
            "links": False,  # True: links may point outside the root
            "records": "",  # folder for a copy in array_record, which reads faster
            # survey.json of another run: files that have not changed since then are not
            # read again before training
            "survey": "",
        }
    )
    config.model.widths = (32, 64, 128, 256)
    return config
