"""PhC-C2DH-U373 of the Cell Tracking Challenge as a TFDS data set."""
