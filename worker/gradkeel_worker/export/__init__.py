"""Writing a trained model out: bundle, ONNX graph, safetensors. No pickle anywhere."""

from gradkeel_worker.export.bundle import write_bundle
from gradkeel_worker.export.errors import ExportError
from gradkeel_worker.export.onnx_model import write_onnx
from gradkeel_worker.export.weights import write_safetensors

__all__ = ["ExportError", "write_bundle", "write_onnx", "write_safetensors"]
