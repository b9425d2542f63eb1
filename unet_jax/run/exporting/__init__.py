"""The parts of mode `export`: its samples, its formats and its texts."""
