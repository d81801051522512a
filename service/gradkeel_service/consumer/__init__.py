"""The consumer: the process that takes in what does not come as one request (see ``process.py``)."""
