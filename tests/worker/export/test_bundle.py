"""What lies in a bundle, and that the same model gives the same bytes."""

import hashlib
import json
import zipfile
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.numpy import load as load_weights

from gradkeel.contract import config as contract
from gradkeel_worker.export import ExportError, write_bundle, write_onnx, write_safetensors
from gradkeel_worker.export.check import check_export
from gradkeel_worker.export.core import AVERAGES, FEATURES, LAYERS
from gradkeel_worker.export.onnx_model import onnx_bytes
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.dropout import Dropout
from gradkeel_worker.models.ensemble import MEANS, Adapter, MemberLinear, SharedLinear
from gradkeel_worker.models.numeric import NumericEmbedding
from gradkeel_worker.models.resnet import Residual
from gradkeel_worker.models.sequence import GRU, LSTM, CausalBlock

MEMBERS = ["manifest.json", "weights.safetensors", "model.onnx", "report.json", "report.html", "README.md"]


def _read(case: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(case.folder / "model.gradkeel") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_members_and_their_digests(cases):
    case = cases["scaler standard"]
    members = _read(case)
    manifest = json.loads(members.pop("manifest.json"))
    assert sorted([*manifest["members"], "manifest.json"]) == sorted(MEMBERS)
    for name, data in members.items():
        assert manifest["members"][name] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    whole = (case.folder / "model.gradkeel").read_bytes()
    assert case.digests["bundle"] == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert case.digests["onnx"] == f"sha256:{manifest['members']['model.onnx']['sha256']}"
    assert case.digests["safetensors"] == f"sha256:{manifest['members']['weights.safetensors']['sha256']}"


def test_the_manifest_says_what_a_reader_needs(cases):
    manifest = json.loads(_read(cases["binary"])["manifest.json"])
    assert manifest["format_version"] == 1 and manifest["task"] == "binary"
    assert manifest["target"]["classes"] == ["negative", "sick"]
    assert manifest["dataset"]["sha256"] == "00" * 32
    assert manifest["config"]["loss"]["kind"] == "bce"
    assert {"gradkeel", "torch", "onnx"} <= set(manifest["versions"])
    columns = {column["name"]: column for column in manifest["columns"]}
    assert columns["size"]["scaling"]["kind"] == "standard"
    assert columns["zone"]["scaling"]["unit"].startswith("vector of")
    assert not columns["size"]["required"] and columns["count"]["required"]


def test_a_bundle_with_training_rows_inside_says_so(cases):
    members = _read(cases["neighbours"])
    card, manifest = members["README.md"].decode(), json.loads(members["manifest.json"])
    assert "holds 150 rows of the training data" in card
    assert "training data" not in _read(cases["scaler standard"])["README.md"].decode().lower()
    weights = load_weights(members["weights.safetensors"])
    assert weights["prepare.neighbors.targets"].shape == (150, 1)
    assert manifest["preparation"]["neighbors"]["spaces"][0]["columns"] == ["size", "wide"]
    assert [one["role"] for one in manifest["inputs"]].count("neighbors") == 2
    assert manifest["onnx"]["batch_rows"] == 2**18 // 150


def test_the_same_model_gives_the_same_bytes(cases, tmp_path):
    case = cases["scaler standard"]
    digests = write_bundle(
        case.result,
        tmp_path / "again.gradkeel",
        onnx=tmp_path / "model.onnx",
        safetensors=tmp_path / "weights.safetensors",
        dataset={"id": "ds_1", "sha256": "00" * 32, "name": "raw.csv"},
        job_id="job_1",
        created_at="2026-01-02T03:04:05Z",
        report_html="<!doctype html><title>report</title>",
    )
    assert digests == case.digests
    members = _read(case)
    for name in ("model.onnx", "weights.safetensors"):
        assert (tmp_path / name).read_bytes() == members[name]


def test_weights_hold_the_network_and_every_fitted_array(cases):
    case = cases["batch norm and dropout"]
    arrays = load_weights(_read(case)["weights.safetensors"])
    fitted = case.result.prepared.arrays()
    assert all(arrays[name].tobytes() == fitted[name].tobytes() for name in fitted)
    state = case.result.model.state_dict()
    assert {name.removeprefix("model.") for name in arrays if name.startswith("model.")} == set(state)
    assert all(np.array_equal(arrays[f"model.{name}"], tensor.numpy()) for name, tensor in state.items())


def test_the_graph_takes_raw_columns(cases):
    graph = onnx.load_from_string(_read(cases["scaler standard"])["model.onnx"]).graph
    kinds = {i.name: onnx.TensorProto.DataType.Name(i.type.tensor_type.elem_type) for i in graph.input}
    assert kinds == {
        "size": "DOUBLE",
        "count": "DOUBLE",
        "wide": "DOUBLE",
        "zone": "STRING",
        "code": "STRING",
        "when": "DOUBLE",
        "flag": "STRING",
    }
    (output,) = graph.output
    assert output.name == "prediction" and output.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE


def test_the_card_names_data_metrics_verdict_and_limits(cases):
    card = _read(cases["multiclass"])["README.md"].decode()
    for piece in ("raw.csv", "| accuracy |", "Verdict:", "gradkeel.local", "## Limits", "low, mid, top"):
        assert piece in card


def test_nothing_is_pickled(cases):
    for data in _read(cases["scaler standard"]).values():
        assert not data.startswith(b"\x80\x04") and not data.startswith(b"PK")


def test_files_apart_from_the_bundle(cases, tmp_path):
    case = cases["linear"]
    write_onnx(case.result, tmp_path / "m.onnx")
    write_safetensors(case.result, tmp_path / "m.safetensors")
    members = _read(case)
    assert (tmp_path / "m.onnx").read_bytes() == members["model.onnx"]
    assert (tmp_path / "m.safetensors").read_bytes() == members["weights.safetensors"]


def test_a_graph_of_other_weights_is_found(cases):
    case = cases["scaler standard"]
    graph = onnx_bytes(case.result.prepared, cases["scaler robust"].result.model)
    with pytest.raises(ExportError, match="differs from the model"):
        check_export(case.result.prepared, case.result.model, graph)


def test_a_module_of_the_callers_own_is_refused_by_name(cases):
    with pytest.raises(ExportError, match="Bilinear"):
        onnx_bytes(cases["linear"].result.prepared, torch.nn.Bilinear(2, 2, 1))


def test_every_layer_of_the_models_has_a_graph():
    assert set(ACTIVATIONS.values()) <= set(LAYERS)
    assert {torch.nn.BatchNorm1d, torch.nn.LayerNorm, Dropout, torch.nn.Linear} <= set(LAYERS)
    assert set(FEATURES) == set(NumericEmbedding.__subclasses__())
    assert {Residual, Adapter, SharedLinear, MemberLinear, GRU, LSTM, CausalBlock} <= set(LAYERS)
    assert set(AVERAGES) == set(MEANS)
    models = {"linear", "mlp", "resnet", "tabm", "sequential", "gru", "lstm", "tcn"}
    assert contract.MODELS.keys() == models


def test_raw_units_whose_sums_cancel_are_no_reason_to_refuse(run, raw_files, tmp_path):
    """Inputs of 1e5 in raw units: float32 itself is the limit there, and the check knows."""
    raw = {
        "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
        "optimizer": {"kind": "adam"},
    }
    case = run(raw, raw_files["whole"], tmp_path)
    assert case.digests["bundle"].startswith("sha256:")


def test_zero_as_a_marker_of_a_truth_value(train_on):
    columns = {"b": [0, 1, 1, 0] * 10, "x": list(range(40)), "y": [1.0, 2.0, 3.0, 5.0] * 10}
    missing = {"types": {"b": "boolean"}, "missing_values": {"b": [0]}}
    result = train_on(columns, columns=missing, prepare={"missing": {"kind": "median", "indicator": True}})
    session = onnxruntime.InferenceSession(onnx_bytes(result.prepared, result.model))
    cells = {"b": np.array([["0"], [""], ["1"]], dtype=object), "x": np.full((3, 1), 7.0)}
    zero, nothing, one = session.run(None, cells)[0]
    assert zero == nothing != one
