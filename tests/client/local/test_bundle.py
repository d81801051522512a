"""A bundle is verified before it is believed."""

import io
import json
import sys
import zipfile

import pytest

from gradkeel.local import BundleError, load
from gradkeel.local.bundle import read_bundle


@pytest.fixture
def members(bundle_path):
    with zipfile.ZipFile(bundle_path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip(members):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def test_path_and_bytes_load_alike(bundle_path, record):
    ours, theirs = load(bundle_path), load(bundle_path.read_bytes())
    assert ours.predict([record]).values == theirs.predict([record]).values


@pytest.mark.parametrize(
    "name", ["model.onnx", "weights.safetensors", "report.json", "report.html", "README.md"]
)
def test_one_changed_byte_is_found(members, name):
    data = bytearray(members[name])
    data[len(data) // 2] ^= 1
    with pytest.raises(BundleError, match=name):
        load(_zip(members | {name: bytes(data)}))


def test_members_that_the_manifest_does_not_name_are_refused(members):
    with pytest.raises(BundleError, match="not those"):
        load(_zip(members | {"extra.pkl": b"x"}))
    with pytest.raises(BundleError, match="not those"):
        load(_zip({k: v for k, v in members.items() if k != "model.onnx"}))


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04 no zip", b"\x80\x04K\x01."])
def test_junk_is_no_bundle(junk):
    with pytest.raises(BundleError):
        load(junk)


def test_a_cut_bundle_is_refused(bundle_path):
    whole = bundle_path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        with pytest.raises(BundleError):
            load(whole[:size])


def test_other_formats_and_versions_are_named(members):
    manifest = json.loads(members["manifest.json"])
    for change, message in (({"format": "other"}, "does not describe"), ({"format_version": 2}, "version 2")):
        changed = json.dumps(manifest | change).encode()
        with pytest.raises(BundleError, match=message):
            load(_zip(members | {"manifest.json": changed}))
    with pytest.raises(BundleError, match="no bundle"):
        load(_zip({k: v for k, v in members.items() if k != "manifest.json"}))


def test_a_bomb_is_refused_before_it_is_unpacked(members, monkeypatch):
    monkeypatch.setattr("gradkeel.local.bundle._MAX_BYTES", 10**6)
    bomb = _zip(members | {"zeros": bytes(10**6)})
    assert len(bomb) < 10**5
    with pytest.raises(BundleError, match="unpacks to more"):
        read_bundle(bomb)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BundleError, match="there is no file"):
        load(tmp_path / "nowhere.gradkeel")


def test_without_onnxruntime_it_says_what_to_install(bundle_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BundleError, match=r"gradkeel\[local\]"):
        load(bundle_path)
