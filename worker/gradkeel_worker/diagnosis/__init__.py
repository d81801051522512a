"""Diagnosis: from readings to a gradient-health report.

``diagnose`` and ``partial_report`` need numpy alone. Modules that measure on a model (``gradient_check``,
``provenance``, ``examination``, ``evaluation``) need torch and are imported by name.
"""

from __future__ import annotations

from gradkeel_worker.diagnosis.evidence import Evaluation, Evidence, Origin
from gradkeel_worker.diagnosis.report import diagnose, partial_report

__all__ = ["Evaluation", "Evidence", "Origin", "diagnose", "partial_report"]
