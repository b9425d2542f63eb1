"""Builders of the parts of a run from its config. No lower layer reads a config."""
