"""Your own images and masks.

Paper     none; a U-Net of middle size with today's habits
Data      a folder with images/ and masks/, whose files share their stems; or with
          train/, val/ and test/ that have these. Beside them, or instead of masks/,
          may be instances/ (object ids) and targets/ (images to be predicted), and
          unlabelled/ (images without labels)
Command   python main.py --config=configs/folder.py --config.data.root=DIR
          and before that the same with --mode=inspect
Measured  nothing: every folder is another

With --mode=inspect nothing is trained: the mistakes are found, and a plan is written,
which is a config made for the folder: `python main.py --config=runs/folder/plan.py`.
What stands here suits images of some hundred pixels.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """A U-Net of middle size with today's habits."""
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
            # folders or globs in it; of globs the wildcards pair 'raw/*_img.tif' with
            # 'drawn/*_mask.png'
            "images": "images",
            "masks": "masks",
            "instances": "instances",  # object ids
            "targets": "targets",  # images to be restored or predicted
            "unlabelled": "unlabelled",  # images without labels
            "axes": 2,  # 3: volumes, and then the crop has three sizes
            "channels": 0,  # 1 | 3 makes grey or RGB of all; 0: what most of them need
            "classes": (),  # names by id, the background first; (): as the masks say
            "colours": (),  # red, green and blue of each
            # of a mask value or colour, and a class: ((0,0),(255,1)) or
            # (((255,0,0),'cell'),)
            "label_map": (),
            "ignore_label": -1,  # the mask value where nobody annotated; -1: none
            "multilabel": False,  # a class per channel of a mask, with head=sigmoid
            "spacing": (),  # the size of a pixel, where files do not say
            "val": 0.15,  # shares of the images, where the folder gives no splits
            "test": 0.15,
            "folds": 0,  # cross-validation instead of shares
            "fold": 0,
            "group": "",  # what files of one patient or video share: 'case_([0-9]+)'
            "seed": 0,  # of the split
            "split": "",  # the split.json of another run
            "leaks": "refuse",  # allow: the same image in two given splits
            "links": False,  # True: links may lead out of the root
            "records": "",  # where to keep a large folder's records, to read them fast
            # the survey.json of another run: files that have not changed since then are
            # not read again before training
            "survey": "",
        }
    )
    config.model.widths = (32, 64, 128, 256)
    return config
