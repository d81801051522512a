"""How a request to stop reaches code that does not ask for it."""


class Interrupted(BaseException):
    """A request to stop, raised amid whatever is done; its text is the status to end with.

    No ``Exception``, so that nothing which mends ordinary failures catches it.
    """


class Released(Exception):
    """The run stopped at a checkpoint and is to go on elsewhere."""
