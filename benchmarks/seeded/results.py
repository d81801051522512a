"""What the runs' reports said, one JSON line each, and the figures made of the lines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
HEALTHY = "healthy"
TWIN = "healthy: without the fault"
"""The run that a fault is put into, as it is."""


@dataclass(frozen=True)
class Said:
    """A finding: its rule, severity, confidence, the issue or cause it named, and whether it named the seeded
    place.
    """

    rule: str
    severity: str
    confidence: str
    cause: str | None
    placed: bool

    @property
    def serious(self) -> bool:
        return self.severity != "info"


@dataclass(frozen=True)
class Line:
    """One run. ``kind``: the fault's name, or HEALTHY and the setting. ``metric``: its test error,
    ``constant``: that of the best constant. ``error`` in place of everything where the program failed.
    """

    set: str
    kind: str
    optimizer: str
    seed: int
    repair: int
    verdict: str | None = None
    said: list[Said] = field(default_factory=list)
    metric: float | None = None
    constant: float | None = None
    repairs: list[list[str]] = field(default_factory=list)
    cpu_seconds: float = 0.0
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        return self.set, self.kind, self.optimizer, self.seed, self.repair

    @property
    def healthy(self) -> bool:
        return self.kind.startswith(HEALTHY)


def read(path: Path) -> list[Line]:
    """The lines of a file, none where there is no file; of several of one run the last."""
    if not path.exists():
        return []
    found = [_line(json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines()]
    return list({line.key: line for line in found}.values())


def _line(entry: Json) -> Line:
    return Line(**entry | {"said": [Said(*one) for one in entry["said"]]})


def append(path: Path, line: Line) -> None:
    """Write a line at the end."""
    entry = asdict(line) | {"said": [list(asdict(one).values()) for one in line.said]}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
