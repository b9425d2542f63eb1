"""The 2018 Data Science Bowl, stage 1, as a TFDS data set."""
