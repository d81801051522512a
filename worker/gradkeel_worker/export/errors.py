"""What can go wrong when a model is written out.

ExportError    the model has a part that no exported graph is known for, or the graph does not agree with it
"""


class ExportError(Exception):
    """A model that cannot be exported. The message names the part."""
