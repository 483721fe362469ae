"""What can go wrong, by who is at fault; each class carries the exit code of the command line.

A message is one line: what, value, limit, unit, what to try.
"""


class LabctlError(Exception):
    """Base of every error that labctl raises on purpose; `exit_code` is the command line's."""

    exit_code = 1


class MeasurementError(LabctlError):
    """The bench works, the measurement does not (exit 1)."""


class StorageError(MeasurementError):
    """A file cannot be written, read or recovered (exit 1)."""


class DivergenceError(MeasurementError):
    """A re-execution does not match its recording (exit 1)."""


class UsageError(LabctlError):
    """The caller asked for something that cannot be: wrong name, type or value (exit 2)."""

    exit_code = 2


class ParameterError(UsageError):
    """A parameter is unknown, of the wrong type, or outside its declared limits."""


class StationError(UsageError):
    """A station file cannot be read or does not describe a bench."""


class LimitError(UsageError):
    """A request would leave the limits of the chip or of the bench; nothing was applied."""


class BenchError(LabctlError):
    """An instrument failed, or stopped answering (exit 3). The bench was asked to go safe."""

    exit_code = 3


class LinkError(BenchError):
    """The link to an instrument failed: closed, timed out after all retries, or unintelligible."""


class VersionError(BenchError):
    """An instrument speaks another version of its protocol."""


class InstrumentError(BenchError):
    """An instrument refused a request or reports a fault of its own."""


class Aborted(LabctlError):
    """The operator stopped the run: the bench is safe and the data are kept (exit 130)."""

    exit_code = 130
