"""U373 cells in phase contrast, with the network of the paper.

Paper     Ronneberger et al. 2015, sections 2 to 4; arXiv:1505.04597. Table 2: SEG, the
          mean IoU of the cells: 0.9203 on the challenge's secret test videos, trained
          on 35 partially annotated images
Data      PhC-C2DH-U373 of the Cell Tracking Challenge, two public videos. Video 02
          tests; of 01 the last fifth of the frames with gold truth validates and the
          rest trains
Command   python main.py --config=configs/phc_u373.py --config.data.manual_dir=DIR

Measured  nothing yet. SEG on video 02 will not be comparable with the paper's number,
          which is of the secret videos. --config.data.sequence=1 swaps the videos.

As in the paper: the VALID network on tiles of 572 with mirrored borders, one tile a
step, SGD with momentum 0.99, cross-entropy with the border weight map, which separates
touching cells, elastic deformation, dropout at the end of the contracting path.
Cells that are marked but not outlined are ignored by the loss and the metrics.
Departures: those of configs/isbi.py, and training on one video; the paper had two.
"""

from ml_collections import ConfigDict

from unet_jax.configs import dic_hela


def get_config() -> ConfigDict:
    """Returns the paper's recipe for the U373 cells."""
    config = dic_hela.get_config()
    config.name = config.data.name = "phc_u373"
    return config
