class Committer:
    """One thread that writes and syncs log records without ever holding the GIL.

    ``fileno`` is an eventfd that becomes readable when the outstanding write is finished.
    """

    def __init__(self) -> None: ...
    @property
    def fileno(self) -> int: ...
    @property
    def is_busy(self) -> bool: ...
    def submit(self, fd: int, data: memoryview, offset: int, sync: bool) -> None:
        """Start writing; one write at a time. The buffer must stay as it is until ``result``."""
    def result(self) -> float | None:
        """Seconds that the finished write took; None while it is under way. Raises OSError if it failed."""
    def close(self) -> None:
        """Wait for the outstanding write and end the thread."""
