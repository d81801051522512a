"""Parts of ``benchmarks/faults.py``: tables, faults put into runs, what the report said of them, figures."""
