"""The data set of a folder of the user's own images."""
