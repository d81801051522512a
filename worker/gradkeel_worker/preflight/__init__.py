"""Preflight: which learning rate a config can use, and whether scaling changes it, before any training.

On a sample of the rows and with fresh weights that are thrown away: for each scaling the size of the
gradient, the curvature, the learning rate beyond which steps swing farther and farther, and a dry run that
confirms a smaller one. Everything is counted in rows, products and steps, so that a rerun finds the same.
"""

from gradkeel_worker.preflight.look import Preflight, preflight

__all__ = ["Preflight", "preflight"]
