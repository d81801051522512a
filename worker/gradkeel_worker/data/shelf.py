"""A table's columns where its storage keeps them."""

from collections.abc import Iterator, MutableMapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gradkeel_worker.data.storage import Scratch, Storage
from gradkeel_worker.data.table import Array, Column


def shelf(storage: Storage) -> MutableMapping[str, Column]:
    """A place for columns."""
    return _Shelf(storage) if isinstance(storage, Scratch) else {}


class _Shelf(MutableMapping[str, Column]):
    """Columns in scratch files: numbers as they are, texts as codes, decoded whenever they are asked for."""

    def __init__(self, storage: Scratch) -> None:
        self._storage = storage
        self._kept: dict[str, Column] = {}
        self._levels: dict[str, Array] = {}
        self._decoded: Column | None = None

    def __setitem__(self, name: str, column: Column) -> None:
        self._decoded = None
        values = column.values
        if values.dtype == object:
            values, levels = distinct(values)
            self._levels[name] = np.array([*levels, None], dtype=object)
        else:
            self._levels.pop(name, None)
        self._kept[name] = replace(column, values=self._storage.keep(values))

    def __getitem__(self, name: str) -> Column:
        kept, levels = self._kept[name], self._levels.get(name)
        if levels is None:
            return kept
        if self._decoded is None or self._decoded.name != name:
            self._decoded = None  # one at a time
            self._decoded = replace(kept, values=levels[kept.values])
        return self._decoded

    def __delitem__(self, name: str) -> None:
        self._decoded = None
        del self._kept[name]
        self._levels.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def distinct(values: Array) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Code of each cell [n] and the distinct texts; a missing cell's code is len(texts)."""
    encoded = pa.array(values, type=pa.string(), from_pandas=True).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):  # more text than one array of Arrow's holds
        encoded = encoded.unify_dictionaries().combine_chunks()
    levels: list[str] = encoded.dictionary.to_pylist()
    codes = pc.fill_null(encoded.indices, len(levels)).to_numpy(zero_copy_only=False)
    return codes, levels
