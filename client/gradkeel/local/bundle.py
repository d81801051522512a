"""Reading a bundle: a zip whose manifest names every member with its digest."""

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradkeel.local.errors import BundleError

FORMAT = "gradkeel.model"
FORMAT_VERSION = 1
MANIFEST, GRAPH = "manifest.json", "model.onnx"
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Bundle:
    """The manifest, and the members whose digests were verified."""

    manifest: dict[str, Any]
    members: dict[str, bytes]


def read_bundle(source: str | Path | bytes) -> Bundle:
    """Open, bound and verify a bundle. Raises BundleError."""
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            contents = _contents(archive)
    except FileNotFoundError as error:
        raise BundleError(f"there is no file {source!s}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BundleError(f"the file is not a whole bundle: {error}") from error
    manifest = _manifest(contents.pop(MANIFEST, None))
    _verify(manifest, contents)
    return Bundle(manifest, contents)


def _contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Every member, read no further than its declared size. Nothing is written anywhere."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise BundleError("the bundle holds a member twice")
    if sum(info.file_size for info in infos) > _MAX_BYTES:
        raise BundleError(f"the bundle unpacks to more than {_MAX_BYTES} bytes")
    return {info.filename: archive.read(info) for info in infos}


def _manifest(data: bytes | None) -> dict[str, Any]:
    if data is None:
        raise BundleError(f"the file is no bundle: it has no {MANIFEST}")
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{MANIFEST} does not describe a Gradkeel model")
    if manifest.get("format_version") != FORMAT_VERSION:
        version = manifest.get("format_version")
        raise BundleError(f"the bundle has format version {version!r}; this reader knows {FORMAT_VERSION}")
    return manifest


def _verify(manifest: dict[str, Any], contents: dict[str, bytes]) -> None:
    declared = manifest.get("members")
    if not isinstance(declared, dict) or set(declared) != set(contents) or GRAPH not in declared:
        raise BundleError("the members of the bundle are not those that its manifest names")
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != declared[name].get("sha256"):
            raise BundleError(f"{name} does not match its digest; the bundle is damaged")
