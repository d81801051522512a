"""Names on the wire between service and worker. A message carries one id; the row that it names decides."""

TRAIN = "gradkeel.train"
"""kwargs: ``{"job_id": "job_…"}``."""

INGEST = "gradkeel.ingest"
"""kwargs: ``{"dataset_id": "ds_…"}``."""

TRAIN_QUEUE = "gradkeel.training"
INGEST_QUEUE = "gradkeel.ingest"
