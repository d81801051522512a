"""/ui: pages for people, drawn on the server; they work without scripts, which only add the live view."""

from gradkeel_service.ui.routes import blueprint

__all__ = ["blueprint"]
