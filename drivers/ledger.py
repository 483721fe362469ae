"""The dose ledger of a chip: pulses, reads and half-selects of each cell, for the chip's life.

The board counts while it has power; the ledger adds up what it counted, power-on after power-on, in a file beside the
data. So a run that was killed, or a computer that crashed, loses nothing: what the board went on to count is added the
next time it is asked. Only a board that loses its power before it was asked takes counts with it.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import DOSES
from labctl.errors import LimitError, StorageError
from labctl.station import ChipWiring

FORMAT = 1
SAVE_EVERY = 1.0
"""Seconds of real time, at least, between two savings while a run goes on."""
Counts = NDArray[np.int64]


class Ledger:
    """Doses of the cells of one chip, `counts` of shape (len(DOSES), rows, columns).

    path: the file, or None for a chip without an id, whose ledger lasts as long as the bench is open. budget: pulses a
    cell may get in its life, or None. Raises `StorageError` for a file that is no ledger of this chip.
    """

    def __init__(
        self,
        chip: ChipWiring,
        path: Path | None,
        budget: float | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.chip, self.path, self._budget, self._now = chip, path, budget, now
        shape = (len(DOSES), chip.rows, chip.columns)
        self.counts: Counts = np.zeros(shape, np.int64)
        self._boot = np.zeros(chip.rows, np.int64)  # power-on of which the last answer for each row was …
        self._seen: Counts = np.zeros(shape, np.int64)  # … and what it said
        self._saved = -np.inf
        if path is not None and path.exists():
            self._load(path)

    def add(self, row: int, boot: int, counted: Counts) -> None:
        """Take what the board has counted for a row since its power-on `boot`: (len(DOSES), bit lines)."""
        counted = counted[:, : self.chip.columns]
        before = self._seen[:, row] if self._boot[row] == boot else np.zeros_like(counted)
        self.counts[:, row] += counted - before
        self._seen[:, row], self._boot[row] = counted, boot
        self._save_now_and_then()

    def assume(self, row: int, column: int, pulses: int) -> None:
        """Take so many pulses on a cell as given, where the board does not count."""
        self.counts[0, row, column] += pulses
        self._save_now_and_then()

    def of(self, row: int, column: int) -> dict[str, int]:
        """What a cell was given so far."""
        return dict(zip(DOSES, self.counts[:, row, column].tolist(), strict=True))

    def check(self, row: int, column: int, pulses: int) -> None:
        """Raise `LimitError` unless the budget allows the cell so many pulses more."""
        given = int(self.counts[0, row, column])
        if self._budget is not None and given + pulses > self._budget:
            raise LimitError(
                f"cell ({row}, {column}) of {self.chip.name} was given {given} pulses and may get {self._budget:.0f} in"
                f" its life (limits.pulses of the station); up to {pulses} more are refused, nothing was applied"
            )

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self._saved = self._now()
        if self.path is None:
            return
        content = {
            "format": FORMAT,
            "chip": self.chip.id,
            "counts": dict(zip(DOSES, self.counts.tolist(), strict=True)),
            "boot": self._boot.tolist(),
            "seen": dict(zip(DOSES, self._seen.tolist(), strict=True)),
        }
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.write_text(json.dumps(content), encoding="utf-8")
            os.replace(new, self.path)
        except OSError as error:
            raise StorageError(f"the dose ledger {self.path} cannot be written ({error})") from error

    def _save_now_and_then(self) -> None:
        if self._now() >= self._saved + SAVE_EVERY:
            self.save()

    def _load(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (content["format"], content["chip"]) != (FORMAT, self.chip.id):
                raise ValueError(f"it is format {content['format']} of chip {content['chip']!r}")
            counts, seen = (np.array([content[name][kind] for kind in DOSES], np.int64) for name in ("counts", "seen"))
            boot = np.array(content["boot"], np.int64)
            if counts.shape != self.counts.shape or seen.shape != counts.shape or boot.shape != self._boot.shape:
                raise ValueError(f"it has {counts.shape[1:]} cells, the station says {self.counts.shape[1:]}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{path} is no dose ledger of chip {self.chip.id!r} ({error}); move it away to begin a new one"
            ) from error
        self.counts, self._seen, self._boot = counts, seen, boot
