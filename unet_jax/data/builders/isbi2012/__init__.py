"""The ISBI 2012 challenge as a TFDS data set."""
