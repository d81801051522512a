"""The models that this process has loaded for predicting."""

import importlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from gradkeel_store.objects import Objects

if TYPE_CHECKING:
    from gradkeel.local import Model

KEPT_MODELS = 8


def local() -> Any:
    """gradkeel.local, which brings numpy and onnxruntime (100 MB): only a process that predicts loads it."""
    return importlib.import_module("gradkeel.local")


class Predictors:
    """The most recently used models, by the digest of their bundle."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._held: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str) -> "Model":
        """The model of a stored bundle (SHA-256 in hex)."""
        with self._lock:
            model = self._held.get(digest)
            if model is None:
                model = local().load(b"".join(self._objects.open(digest)))
                self._held[digest] = model
            self._held.move_to_end(digest)
            while len(self._held) > KEPT_MODELS:
                self._held.popitem(last=False)
        return model
