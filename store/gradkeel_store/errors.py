"""What can go wrong in the store.

StoreError
├── SettingsError            a setting that cannot be used; the message names it
├── NotFound                 no such thing in this project
├── Conflict                 the state of the thing forbids it
│   ├── InUse                a data set that queued or running jobs need
│   ├── DatasetRejected      a job for data that was rejected
│   ├── AlreadyEnded         cancel after the end
│   ├── NotEnded             retry before the end
│   ├── InFlight             the same idempotent request is still running
│   ├── WrongOffset          bytes of an upload that do not follow those that are stored
│   └── Held                 an upload that another request is working on
├── Gone                     an upload that expired, or was refused after its bytes were in
├── IdempotencyMismatch      an Idempotency-Key used again for another request
├── BadCursor                a page cursor that this store did not make
├── Unavailable              the database or the object store does not answer: try again later
├── StorageFull              no room left; nothing was kept
└── ObjectError
    ├── ObjectMissing        no object with this digest
    └── ObjectCorrupt        the bytes do not match their digest; they are not handed out
"""


class StoreError(Exception):
    """Root of this package's errors."""


class SettingsError(StoreError):
    """A setting that cannot be used."""


class NotFound(StoreError):
    """No such thing in this project; things of other projects count as absent."""


class Conflict(StoreError):
    """The state of the thing forbids it."""


class InUse(Conflict):
    """A data set or a model that queued or running jobs need."""


class DatasetRejected(Conflict):
    """A job was asked for data that was rejected."""


class AlreadyEnded(Conflict):
    """The job ended before it could be cancelled."""


class NotEnded(Conflict):
    """The job has not ended yet."""


class InFlight(Conflict):
    """The same request, under the same Idempotency-Key, is still running."""


class WrongOffset(Conflict):
    """Bytes for an upload that do not follow those that are stored."""


class Held(Conflict):
    """Another request is working on the upload."""


class Gone(StoreError):
    """An upload that expired, or that was refused; its bytes are not kept."""


class IdempotencyMismatch(StoreError):
    """An Idempotency-Key was used again for another request."""


class BadCursor(StoreError):
    """A page cursor that this store did not make."""


class Unavailable(StoreError):
    """The database or the object store does not answer."""


class StorageFull(StoreError):
    """There is no room left; nothing was kept."""


class ObjectError(StoreError):
    """Something is wrong with an object."""


class ObjectMissing(ObjectError):
    """There is no object with this digest."""


class ObjectCorrupt(ObjectError):
    """The stored bytes do not match their digest."""
