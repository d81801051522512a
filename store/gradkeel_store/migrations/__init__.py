"""The tables' history (Alembic)."""

HEAD = "0005"
"""The newest revision. A test compares it with ``versions/``; it lets a start skip Alembic altogether."""
