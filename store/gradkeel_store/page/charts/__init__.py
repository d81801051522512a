"""Small SVG charts, drawn on the server: they need no script, print, and follow the page's colours.

Every chart stretches sideways with its page while its text keeps its size: labels stand in pixels or percent,
and only the marks are drawn in a stretched 1000 × 1000 field with strokes that do not scale.
"""
