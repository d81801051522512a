"""The sections of the page, in reading order."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.sections.closing import cost_section, provenance_section
from gradkeel_store.page.sections.counterfactual import counterfactual_section
from gradkeel_store.page.sections.curvature import curvature_section
from gradkeel_store.page.sections.data import data_section
from gradkeel_store.page.sections.findings import findings_section
from gradkeel_store.page.sections.full_tier import full_tier_section
from gradkeel_store.page.sections.gradient_check import gradient_check_section
from gradkeel_store.page.sections.importance import importance_section
from gradkeel_store.page.sections.intervals import intervals_section
from gradkeel_store.page.sections.layers import layers_section
from gradkeel_store.page.sections.outputs import outputs_section
from gradkeel_store.page.sections.predictions import predictions_section
from gradkeel_store.page.sections.preflight import preflight_section
from gradkeel_store.page.sections.probabilities import probabilities_section
from gradkeel_store.page.sections.repairs import repairs_section
from gradkeel_store.page.sections.result import result_section
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.sections.stabilizers import stabilizers_section
from gradkeel_store.page.sections.training import training_section
from gradkeel_store.page.source import View


def all_sections(view: View) -> tuple[list[Section], dict[str, Any]]:
    """Every section, and the readings its charts offer to a pointer, by chart."""
    if view.is_preflight:
        return [preflight_section(view), data_section(view)], {}
    readings: dict[str, Any] = {}
    check, sweep = gradient_check_section(view)
    sections: list[Section | None] = [
        findings_section(view),
        repairs_section(view),
        result_section(view),
        outputs_section(view),
        intervals_section(view),
        training_section(view, readings),
        layers_section(view, readings),
        full_tier_section(view, readings),
        stabilizers_section(view),
        counterfactual_section(view, readings),
        curvature_section(view),
        check,
        data_section(view),
        predictions_section(view),
        probabilities_section(view),
        importance_section(view),
        cost_section(view),
        provenance_section(view),
    ]
    return [section for section in sections if section], {**readings, **sweep}
