"""An exception in a child, as the error of a job: {code, message, where}."""

from typing import Any

from gradkeel.contract.states import JobErrorCode

OUT_OF_MEMORY_NAMES = frozenset(
    {"OutOfMemoryError", "OutOfMemoryException", "ArrowMemoryError", "MemoryError"}
)
OUT_OF_MEMORY_WORDS = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "CUDA out of memory",
    "std::bad_alloc",
    "Unable to allocate",
    "annot allocate memory",
    "failed to map segment",
    "can't start new thread",
)
SHOWN = 500


class NeedsMemory(MemoryError):
    """A job that cannot be done within its memory, as could be told beforehand; the message says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error, or one it came from, is a lack of memory. Told by name, to import nothing."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or type(seen).__name__ in OUT_OF_MEMORY_NAMES:
            return True
        if any(word in str(seen) for word in OUT_OF_MEMORY_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def describe(error: BaseException) -> dict[str, Any]:
    """The job's error for an exception."""
    if isinstance(error, NeedsMemory):
        return out_of_memory(str(error))
    if is_out_of_memory(error):
        return out_of_memory()
    faults = getattr(error, "errors", None)
    if type(error).__name__ in {"DataError", "ConfigError"} and faults:
        where = faults[0].to_json() | {"errors": [fault.to_json() for fault in faults[:20]]}
        return {"code": JobErrorCode.BAD_DATA.value, "message": str(error)[:SHOWN], "where": where}
    message = f"{type(error).__name__}: {str(error)[:SHOWN]}"
    return {"code": JobErrorCode.INTERNAL.value, "message": message, "where": {}}


def out_of_memory(
    message: str = "the job needs more memory than it may use: make the model or the batch smaller, "
    "or raise budget.max_memory_mb or the worker's GRADKEEL_JOB_MEMORY_MB",
) -> dict[str, Any]:
    """The error of a job that needs more memory than it may have."""
    return {"code": JobErrorCode.OUT_OF_MEMORY.value, "message": message, "where": {}}
