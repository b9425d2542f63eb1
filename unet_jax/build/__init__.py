"""The parts of a run, built from its config. No lower floor reads a config."""
