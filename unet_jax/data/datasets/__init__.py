"""Public data sets and synthetic ones, one file for each set or family of sets."""
