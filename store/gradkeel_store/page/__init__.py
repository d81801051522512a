"""The report page: one self-contained HTML file drawn from the report's JSON."""

from gradkeel_store.page.document import content_security_policy, render_report, stylesheet

__all__ = ["content_security_policy", "render_report", "stylesheet"]
