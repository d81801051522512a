"""Running one atheris target from the command line: ``python NAME.py FOLDER [-libFuzzer_option=…]``.

FOLDER receives the seeds and grows into the corpus. Without options the fuzzer runs until it finds something.
``python NAME.py FILE`` tries one input again, in the open.
Inputs that once broke something belong into the target's seeds, so that they are tried first ever after.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

Target = Callable[[bytes], None]
Mutator = Callable[[bytes, int, int], bytes]

BOUNDS = ("-rss_limit_mb=1536", "-timeout=20", "-close_fd_mask=0")
"""Memory of the process and seconds for one input; past them the fuzzer fails as for a crash."""


def run(target: Target, seeds: Iterable[bytes], longest: int, mutator: Mutator | None = None) -> None:
    """Fuzz ``target`` with inputs of at most ``longest`` bytes, beginning with ``seeds``.

    ``mutator(input, longest, seed)`` makes a new input where changing single bytes leads nowhere.
    """
    corpus, *options = sys.argv[1:]
    folder = Path(corpus)
    if folder.is_file():
        return target(folder.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        assert len(seed) <= longest, f"a seed of {len(seed)} bytes"
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    prefix = f"-artifact_prefix={folder.parent}/"
    command = [sys.argv[0], *BOUNDS, prefix, f"-max_len={longest}", *options, corpus]
    atheris.Setup(command, target, **({} if mutator is None else {"custom_mutator": mutator}))
    atheris.Fuzz()
