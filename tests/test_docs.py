"""The generated pages are current."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("config.md", "errors.md", "settings.md", "rules.md", "report.schema.json", "openapi.json")


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
