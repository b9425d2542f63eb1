"""TFDS builders, one package each; they import TFDS, so import them late."""
