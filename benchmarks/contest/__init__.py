"""The contest behind ``make bench-quality``: data sets, contestants, results."""
