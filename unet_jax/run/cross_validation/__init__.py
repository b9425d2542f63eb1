"""The parts of mode `crossval`: the scores of all folds, and their predictions."""
