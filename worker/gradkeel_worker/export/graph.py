"""Building an ONNX graph node by node. A value is known by its name."""

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET, ML_OPSET, IR_VERSION = 18, 4, 9
ML = "ai.onnx.ml"
_INNER = "gradkeel/"


class Graph:
    """Nodes and constants in the order they were added; inner names never meet those of columns."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: str, kind: int) -> str:
        """A column [N, 1]."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["N", 1]))
        return name

    def positions(self, name: str, length: int) -> str:
        """Which rows make each window, int64 [M, length]."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["M", length]))
        return name

    def output(self, value: str, name: str, shape: list[str | int]) -> None:
        """Give a double value out under a name of its own."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape))

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> str:
        """A constant tensor."""
        name = f"{_INNER}constant_{len(self._constants)}"
        values = np.ascontiguousarray(np.asarray(array, dtype=dtype))
        self._constants.append(numpy_helper.from_array(values.reshape(np.shape(array)), name))
        return name

    def add(self, operation: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Apply an operation; the name of its one result."""
        result = f"{_INNER}{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [result], domain=domain, **attributes))
        return result

    def smallest(self, values: str, k: int) -> str:
        """Positions of the k smallest of each row [N, m], the smallest first, of equals the first: [N, k]."""
        result = f"{_INNER}TopK_{len(self._nodes)}"
        inputs, outputs = [values, self.constant([k], np.int64)], [f"{result}_values", result]
        self._nodes.append(helper.make_node("TopK", inputs, outputs, axis=1, largest=0, sorted=1))
        return result

    def ascending(self, value: str, columns: int) -> str:
        """Each row of [N, columns] in ascending order."""
        places = f"{_INNER}places_{len(self._nodes)}"
        result = f"{_INNER}TopK_{len(self._nodes)}"
        count = self.constant([columns], np.int64)
        self._nodes.append(
            helper.make_node("TopK", [value, count], [result, places], axis=1, largest=0, sorted=1)
        )
        return result

    def cast(self, value: str, kind: int) -> str:
        """The value as another type."""
        return self.add("Cast", value, to=kind)

    def concat(self, values: list[str]) -> str:
        """Columns side by side."""
        return values[0] if len(values) == 1 else self.add("Concat", *values, axis=1)

    def look_up(self, text: str, table: dict[str, int]) -> str:
        """int64 code of each text; 0 for texts that the table lacks."""
        # an encoder without keys is refused; this key maps to the default
        keys, codes = list(table) or [""], list(table.values()) or [0]
        return self.add(
            "LabelEncoder", text, domain=ML, keys_strings=keys, values_int64s=codes, default_int64=0
        )

    def look_up_number(self, text: str, table: dict[str, float]) -> str:
        """Double of each text; NaN for texts that the table lacks."""
        return self.add(
            "LabelEncoder",
            text,
            domain=ML,
            keys_tensor=numpy_helper.from_array(np.array(list(table), dtype=object), "keys"),
            values_tensor=numpy_helper.from_array(np.array(list(table.values()), dtype=np.float64), "values"),
            default_tensor=numpy_helper.from_array(np.array([np.nan]), "default"),
        )

    def model(self, name: str, properties: dict[str, str]) -> ModelProto:
        """The finished model."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="gradkeel"
        )
        helper.set_model_props(model, properties)
        return model
