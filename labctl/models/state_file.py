"""The state of a simulated chip on disk: one NumPy archive, written whole or not at all."""

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import StorageError, UsageError

FORMAT = "labctl-chip-state"
VERSION = 1
State = dict[str, NDArray[np.generic]]


class StateFile:
    """The file that keeps a chip from run to run; it need not exist yet.

    about: what the chip is (text a name), such as its model; a file about another chip is refused.
    """

    def __init__(self, path: Path, about: dict[str, str]) -> None:
        self.path = path
        self._about = about
        self._seen = self._stamp()

    def load(self) -> State | None:
        """What was saved, or None where nothing was yet. Raises `UsageError` for any other file, and leaves it."""
        if self._seen is None:
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                state: State = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"{self.path} cannot be read as the state of a chip ({error}); name another file"
            ) from error
        head = {name.removeprefix("about."): str(state.pop(name)) for name in list(state) if name.startswith("about.")}
        if head.pop("format", None) != FORMAT:
            raise UsageError(f"{self.path} is no saved state of a chip; name another file")
        if (version := head.pop("version", "")) != str(VERSION):
            raise UsageError(
                f"{self.path} is a saved state of version {version}, this labctl has {VERSION}; name another file"
            )
        for name, mine in self._about.items():
            if head.get(name) != mine:
                raise UsageError(
                    f"{self.path} keeps a chip of {name} {head.get(name)!r}, the station says {mine!r}; "
                    f"name another file for this chip"
                )
        return state

    def save(self, state: State) -> None:
        """Put the state in place of the file at once. Raises `StorageError`; the file is then as it was."""
        if self._stamp() != self._seen:
            raise StorageError(
                f"{self.path} was changed by another run meanwhile, so this run's state of the chip is not kept; "
                f"run one after the other, or give each its own file"
            )
        if strange := [name for name, value in state.items() if np.asarray(value).dtype.hasobject]:
            raise StorageError(f"the state of the chip cannot be kept: {strange} are no arrays of numbers or text")
        head = {"format": FORMAT, "version": str(VERSION)} | self._about
        scratch = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with scratch.open("wb") as file:
                arrays: dict[str, Any] = {f"about.{k}": np.array(v) for k, v in head.items()}
                np.savez(file, **arrays | state)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise StorageError(
                f"the state of the chip cannot be kept in {self.path} ({error}); check disk and rights"
            ) from error
        self._seen = self._stamp()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
