"""``python -m gradkeel_worker``: one worker process. Settings come from the environment."""

import argparse
from pathlib import Path

from gradkeel_store.logs import configure_logging
from gradkeel_store.settings import Settings
from gradkeel_worker.tasks import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="gradkeel worker", description=__doc__)
    parser.add_argument("--data", type=Path, help="data folder; default GRADKEEL_DATA")
    arguments = parser.parse_args()
    settings = Settings.load(data=arguments.data)
    configure_logging("worker", settings.log_level)
    serve(settings)


if __name__ == "__main__":
    main()
