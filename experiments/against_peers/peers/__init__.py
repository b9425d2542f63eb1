"""One file for each kind of contender, with `train` and, if needed, `prepare`."""
