"""The parts of a sweep: its trials, the study that shares them out, and its results."""
