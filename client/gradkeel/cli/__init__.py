"""The command line. ``gradkeel.cli:main`` is the console script; each command lives in a file of its name."""

from gradkeel.cli.app import main

__all__ = ["main"]
