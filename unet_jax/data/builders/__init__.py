"""TFDS builders, one package each; those import TFDS, so import them late."""
