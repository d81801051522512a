"""The tables' history (Alembic)."""

HEAD = "0006"
"""The newest revision. A test compares it with ``versions/``; it lets a start skip Alembic altogether."""
