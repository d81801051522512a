"""Weights and every fitted array of the preparation as safetensors."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

FORMAT_VERSION = "1"


def weights_bytes(result: Any) -> bytes:
    """``model.<name>`` for the network's state, ``prepare.*`` and ``target.*`` for the preparation."""
    state = {
        f"model.{name}": tensor.detach().cpu().numpy() for name, tensor in result.model.state_dict().items()
    }
    arrays = {
        name: np.asarray(array, order="C") for name, array in (state | result.prepared.arrays()).items()
    }
    # one entry only: the library writes several in no fixed order
    return save(arrays, metadata={"gradkeel_format": FORMAT_VERSION})


def write_safetensors(result: Any, path: str | Path) -> None:
    """Write the weights file of a training result (``prepared`` and ``model``)."""
    Path(path).write_bytes(weights_bytes(result))
