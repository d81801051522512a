"""gunicorn's own messages as lines of the service's log: JSON, with secrets taken out."""

import logging
from typing import Any

from gunicorn.glogging import Logger

from gradkeel_store.logs import configure_logging


class HttpLog(Logger):  # type: ignore[misc]
    """Named in ``gunicorn_settings.logger_class``. Requests are logged by the application itself."""

    def setup(self, cfg: Any) -> None:
        """Hand everything to the root logger; gunicorn's level stays its own."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.loglevel = self.LOG_LEVELS.get(cfg.loglevel.lower(), logging.INFO)
        self.error_log.setLevel(self.loglevel)
        self.error_log.propagate = True
        configure_logging("service", cfg.loglevel)
