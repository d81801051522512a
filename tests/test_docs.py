"""The generated pages are current."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (
    "api.md",
    "config.md",
    "errors.md",
    "settings.md",
    "rules.md",
    "report.schema.json",
    "openapi.json",
    "reliability.md",
)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_current(generator: ModuleType, page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == generator.PAGES[page](), "run 'make docs'"


def test_every_page_of_the_generator_is_checked(generator: ModuleType) -> None:
    assert set(generator.PAGES) == set(PAGES)


FAULTS = tomllib.loads((DOCS / "faults.toml").read_text(encoding="utf-8"))["fault"]


@pytest.mark.parametrize("test", sorted({test for row in FAULTS for test in row["tests"]}))
def test_every_fault_names_tests_that_are_there(test: str) -> None:
    path, _, name = test.partition("::")
    code = (DOCS.parent / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", code, re.MULTILINE), f"docs/faults.toml names {test}, which is gone"
