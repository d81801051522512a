"""From an uploaded file to a typed Parquet table and its profile, or to a refusal that names the place.

``ingest`` is a pure function of a file and a work folder. ``gradkeel_worker.child`` runs it in a process
whose memory is bounded, because the file comes from outside.
"""

from gradkeel_worker.ingest.errors import IngestError, Rejected
from gradkeel_worker.ingest.options import Limits, Options
from gradkeel_worker.ingest.pipeline import Ingested, ingest

__all__ = ["IngestError", "Ingested", "Limits", "Options", "Rejected", "ingest"]
