"""DIC-C2DH-HeLa of the Cell Tracking Challenge as a TFDS data set."""
