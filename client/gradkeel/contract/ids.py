"""Ids: a short prefix that names the kind, and 131 random bits."""

import re
import secrets
import string

_ALPHABET = string.digits + string.ascii_letters
_LENGTH = 22

DATASET, JOB, MODEL, KEY, PROJECT, REQUEST = "ds", "job", "mdl", "key", "prj", "req"
BATCH, UPLOAD, SUBMISSION = "bat", "upl", "sub"


def new_id(prefix: str) -> str:
    """A fresh id such as ``job_4fK…``: the prefix, an underscore and 22 characters of [0-9a-zA-Z]."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of an id of this kind. Says nothing about whether the thing exists."""
    return re.fullmatch(rf"{prefix}_[0-9a-zA-Z]{{{_LENGTH}}}", text) is not None
