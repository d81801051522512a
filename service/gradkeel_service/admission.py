"""What lets a config become a job, by request, as a line of a batch or from the queue.

Nothing here knows of a request; the project is named by the caller, who has checked its key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import FieldError, escape_pointer
from gradkeel.contract.ids import DATASET, MODEL, is_id
from gradkeel.contract.resolve import check_data, resolve, shape_of
from gradkeel.contract.states import DatasetState, JobKind
from gradkeel.contract.warm_start import completed, missing_features
from gradkeel_service.errors import Refusal, invalid
from gradkeel_store.records import DatasetRow, ModelRow, Records, WorkerRow
from gradkeel_store.settings import Settings

_KEEPS_ITS_SCALING = (
    "a training that goes on from a model keeps that one's scaling and weights, so there is no scaling to "
    "choose; leave model_id out to look at a training from fresh weights"
)

HEARTBEATS_MISSED = 3
"""A worker that missed so many heartbeats does not count as live."""


@dataclass(frozen=True)
class Admitted:
    """A submission that can be accepted. ``submitted``: as it came, completed from an earlier model's job
    where it goes on from that."""

    dataset: DatasetRow
    config: TrainConfig
    submitted: dict[str, Any]


@dataclass(frozen=True)
class Admission:
    """The checks that come before a job's record."""

    records: Records
    settings: Settings

    def check(self, project: str, submitted: dict[str, Any], kind: JobKind = JobKind.TRAIN) -> Admitted:
        """What is to run of a submission that can be accepted.

        Raises ``ConfigError``, ``Refusal`` or a ``StoreError``: see ``problems.refusal_of``.
        """
        if kind == JobKind.PREFLIGHT and submitted.get("model_id") is not None:
            raise invalid("/model_id", "conflict", _KEEPS_ITS_SCALING)
        model = self._find_model(project, submitted.get("model_id"))
        if model is not None:
            earlier = self.records.get_job(project, model.job_id).config
            submitted = completed(submitted, model.id, earlier, model.columns)
        config = resolve(submitted)
        if config.dataset_id is None:
            raise invalid("/dataset_id", "required", "dataset_id is needed")
        dataset = self.find_dataset(project, config.dataset_id)
        if dataset.state == DatasetState.REJECTED:
            raise Refusal("dataset_rejected", f"the data set {dataset.id} was rejected; its error says why")
        if dataset.state == DatasetState.READY and dataset.profile is not None:
            _refuse([] if model is None else missing_features(model.id, model.columns, dataset.profile))
            config = resolve(submitted, shape_of(config, dataset.profile))
            _refuse(check_data(config, dataset.profile, self.settings.max_parameters))
        self._check_device(config)
        return Admitted(dataset, config, submitted)

    def _find_model(self, project: str, model_id: Any) -> ModelRow | None:
        """The model that a training is to go on from; a refusal for any other project's."""
        if not isinstance(model_id, str):
            return None
        if not is_id(model_id, MODEL):
            detail = f"there is no model {model_id[:60]!r}; model_id takes the id of a model, mdl_…"
            raise Refusal("not_found", detail)
        return self.records.get_model(project, model_id)

    def find_dataset(self, project: str, dataset_id: str) -> DatasetRow:
        """The data set of this project; a refusal for any other."""
        if not is_id(dataset_id, DATASET):
            raise Refusal("not_found", f"there is no data set {dataset_id[:60]!r}")
        return self.records.get_dataset(project, dataset_id)

    def check_quota(self, project: str) -> None:
        """Refuse one more job where the project has its fill of queued ones, or of training in a day."""
        most = self.settings.max_queued_jobs
        if self.records.queued_jobs(project) >= most:
            raise Refusal(
                "quota", f"{most} jobs of this project are queued already (GRADKEEL_MAX_QUEUED_JOBS)"
            )
        seconds = self.settings.max_training_seconds
        if seconds and self.seconds_of_day(project) >= seconds:
            raise Refusal(
                "quota",
                f"the project has trained for its {seconds} seconds of 24 hours "
                "(GRADKEEL_MAX_TRAINING_SECONDS)",
                headers={"Retry-After": "600"},
            )

    def seconds_of_day(self, project: str) -> float:
        """Seconds of training of the project's jobs that ended within the last 24 hours."""
        return self.records.training_seconds(project, self.records.now() - timedelta(days=1))

    def room(self, project: str) -> int:
        """How many more jobs the project may queue now; 0 where a quota is used up."""
        try:
            self.check_quota(project)
        except Refusal:
            return 0
        return self.settings.max_queued_jobs - self.records.queued_jobs(project)

    def live_workers(self) -> list[WorkerRow]:
        """Workers whose last heartbeat is recent."""
        return list(self.records.live_workers(self.settings.heartbeat_seconds * HEARTBEATS_MISSED))

    def live_consumers(self) -> list[WorkerRow]:
        """Consumers whose last sign of life is recent."""
        return list(
            self.records.live_workers(self.settings.heartbeat_seconds * HEARTBEATS_MISSED, "consumer")
        )

    def _check_device(self, config: TrainConfig) -> None:
        if config.device != "cuda":
            return
        devices = [str(device) for worker in self.live_workers() for device in worker.info.get("devices", ())]
        if not any(device.startswith("cuda") for device in devices):
            raise invalid("/device", "no_device", "no live worker offers a CUDA device")


def checked_object(document: Any) -> dict[str, Any]:
    """A document from outside, which must be an object that every database can hold; refusals are 422."""
    if not isinstance(document, dict):
        raise Refusal("invalid", "the body must be a JSON object", [FieldError("", "type", "not an object")])
    faults = list(_nul_places(document, ""))
    if faults:
        raise Refusal("invalid", "a string holds a NUL character", faults)
    return document


def _nul_places(value: Any, pointer: str) -> Iterator[FieldError]:
    if isinstance(value, str) and "\0" in value:
        yield FieldError(pointer, "nul", "a NUL character is not accepted")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nul_places(item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            place = f"{pointer}/{escape_pointer(key)}"
            if "\0" in key:
                yield FieldError(place.replace("\0", ""), "nul", "a NUL character in a key is not accepted")
            yield from _nul_places(item, place)


def _refuse(faults: list[FieldError]) -> None:
    if faults:
        detail = faults[0].detail if len(faults) == 1 else f"{len(faults)} places do not fit the data"
        raise Refusal("invalid", detail, faults)
