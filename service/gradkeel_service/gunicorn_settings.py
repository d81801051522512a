"""gunicorn's settings (`--config python:gradkeel_service.gunicorn_settings`), but for address and threads."""

import os
import signal
from typing import Any

from gradkeel_service.stack.children import LIBC, PR_SET_PDEATHSIG


def post_fork(server: Any, worker: Any) -> None:
    """A worker ends with its arbiter: one that lives on would hold its unfinished uploads."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != worker.ppid:
        os.kill(os.getpid(), signal.SIGKILL)


worker_class = "gradkeel_service.http_worker.HttpWorker"
logger_class = "gradkeel_service.http_log.HttpLog"
workers = 1

limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

keepalive = 15
timeout = 60
graceful_timeout = 15

forwarded_allow_ips = ""
forwarder_headers = ""
control_socket_disable = True
accesslog = None
loglevel = "warning"
