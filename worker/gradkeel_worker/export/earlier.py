"""Reading back, from its bundle, the model that a training goes on from."""

from pathlib import Path

from safetensors.numpy import load

from gradkeel.contract.resolve import resolve
from gradkeel.local.bundle import read_bundle
from gradkeel.local.errors import BundleError
from gradkeel_worker.data.errors import fault
from gradkeel_worker.data.kept import Kept, kept_of
from gradkeel_worker.export.bundle import WEIGHTS


def read_earlier(path: str | Path) -> Kept:
    """The preparation and the weights in a bundle, every digest verified.

    Raises:
        DataError: the bundle is damaged, of another version, or cannot be gone on from.
    """
    try:
        bundle = read_bundle(path)
    except BundleError as error:
        detail = f"the earlier model cannot be read: {error}"
        raise fault("conflict", detail, pointer="/model_id") from error
    policy = resolve({**bundle.manifest["config"], "model_id": None}).prepare
    return kept_of(bundle.manifest, load(bundle.members[WEIGHTS]), policy)
