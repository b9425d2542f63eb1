"""U373 cells under phase contrast, with the network of the paper.

Paper     Ronneberger et al. 2015, sections 2 to 4; arXiv:1505.04597. Table 2: SEG, the
          mean IoU of the cells: 0.9203 on the challenge's secret test videos, learnt
          from 35 partially annotated images
Data      PhC-C2DH-U373 of the Cell Tracking Challenge, two public videos: 02 tests; of
          01 the last fifth of the frames with gold truth validates, the rest trains
Command   python main.py --config=configs/phc_u373.py --config.data.manual_dir=DIR

Measured  nothing yet. SEG on video 02 is not the paper's number, whose videos are
          secret; the other way round is --config.data.sequence=1.

As in the paper: the VALID network on tiles of 572 with mirrored borders, one tile a
step, SGD with momentum 0.99, cross-entropy with the border weight map, which keeps
touching cells apart, elastic deformation, dropout at the end of the contracting path.
Pixels of cells that are known but that nobody drew count nowhere.
Departures: those of configs/isbi.py, and training on one video where the paper had two.
"""

from ml_collections import ConfigDict

from configs import dic_hela


def get_config() -> ConfigDict:
    """The paper's recipe for cells, on its other set."""
    config = dic_hela.get_config()
    config.name = config.data.name = "phc_u373"
    return config
