"""Names on the wire. Between service and worker a message carries one id; the row that it names decides."""

TRAIN = "gradkeel.train"
"""kwargs: ``{"job_id": "job_…"}``."""

INGEST = "gradkeel.ingest"
"""kwargs: ``{"dataset_id": "ds_…"}``."""

SUBMIT = "gradkeel.submit"
"""kwargs: ``{"submission_id": …, "api_key": …, "config": {…}}``; sent by producers outside the service."""

TRAIN_QUEUE = "gradkeel.training"
INGEST_QUEUE = "gradkeel.ingest"
SUBMIT_QUEUE = "gradkeel.submissions"
