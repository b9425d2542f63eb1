"""Faults of file systems that a test cannot cause."""

import os


def refuse_stat(monkeypatch, path, code):
    """Makes `os.stat` of a path, with its link followed, raise an error."""
    stat = os.stat

    def refuse(name, *args, follow_symlinks=True, **kwargs):
        if follow_symlinks and os.fspath(name) == str(path):
            raise OSError(code, os.strerror(code), str(path))
        return stat(name, *args, follow_symlinks=follow_symlinks, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
