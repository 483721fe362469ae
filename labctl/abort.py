"""Abort: an event that ends sleeps and board programs; the measuring thread notices it at its own checks."""

import threading

from labctl.errors import Aborted


class AbortSignal:
    """Set it from anywhere; `check` raises in the thread that measures.

    at_check: notice the abort at that check, as a recorded run did (for re-execution).
    """

    def __init__(self, at_check: int | None = None) -> None:
        self.checks = 0
        self._at = at_check
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the run to stop; returns at once."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Aborted` when somebody asked."""
        self.checks += 1
        if self._event.is_set() or self.checks == self._at:
            raise Aborted(f"aborted by the operator (at check {self.checks}); the bench is safe, the data are kept")
