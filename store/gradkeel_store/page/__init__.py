"""The report for people, drawn from its JSON: a page in one file, and Markdown; ``picture`` draws a PNG."""

from gradkeel_store.page.document import content_security_policy, render_report, stylesheet
from gradkeel_store.page.markdown import render_markdown

__all__ = ["content_security_policy", "render_markdown", "render_report", "stylesheet"]
