"""The Oxford-IIIT Pet data set as a TFDS data set, without TensorFlow."""
