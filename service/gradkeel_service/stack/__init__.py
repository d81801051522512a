"""``gradkeel up``: broker, worker, consumer and HTTP server under one supervisor (see ``supervisor.py``)."""
