"""READ FIRST: the Flask application, put together.

Around every request stand, in this order: its id and the Host check (``requests``), its key (``auth``), and
the problem documents of whatever goes wrong (``problems``). Each resource is one module with one blueprint.
"""

from flask import Flask

from gradkeel_service import (
    auth,
    batches,
    datasets,
    docs,
    health,
    jobs,
    keys,
    models,
    origins,
    outcomes,
    preflights,
    problems,
    requests,
    schemas,
    submissions,
    ui,
    uploads,
    usage,
)
from gradkeel_service.openapi import make_api
from gradkeel_service.parts import Parts
from gradkeel_store.logs import configure_logging
from gradkeel_store.settings import Settings

RESOURCES = (
    datasets.blueprint,
    uploads.blueprint,
    jobs.blueprint,
    preflights.blueprint,
    batches.blueprint,
    submissions.blueprint,
    outcomes.blueprint,
    models.blueprint,
    keys.blueprint,
    usage.blueprint,
    schemas.blueprint,
)
PAGES = (health.blueprint, docs.blueprint, ui.blueprint)

BODY_TIMEOUT_SECONDS = 30.0
"""A body that is silent for so long is answered 408; one that drips, when its rate is too low after it."""


def create_app(settings: Settings, *, threads: int = 32, body_timeout: float = BODY_TIMEOUT_SECONDS) -> Flask:
    """The service on these settings. ``threads`` is how many requests the server answers at a time."""
    app = Flask("gradkeel_service", static_folder=None)
    app.config["BODY_TIMEOUT_SECONDS"] = body_timeout
    app.url_map.strict_slashes = True
    app.extensions["gradkeel"] = Parts.open(settings, threads)
    requests.register(app)
    origins.register(app)
    auth.register(app)
    problems.register(app)
    api = make_api(app)
    for blueprint in RESOURCES:
        api.register_blueprint(blueprint)
    for page in PAGES:
        app.register_blueprint(page)
    return app


def from_environment(threads: int = 32, body_timeout: float = BODY_TIMEOUT_SECONDS) -> Flask:
    """The service as the environment sets it; what gunicorn loads."""
    settings = Settings.load()
    configure_logging("service", settings.log_level)
    return create_app(settings, threads=threads, body_timeout=body_timeout)
