"""What watched neurons did: stored segments of constant input, from which V_mem and OUT are evaluated at any time."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.errors import UsageError
from labctl.models.neuron_flow import CONDITIONS, trace
from labctl.models.neuron_params import FloatArray


class Growing:
    """Rows of numbers that are added at the end and dropped at the front; `rows` is a view."""

    def __init__(self, width: int, dtype: type[Any] = np.float64) -> None:
        self._data = np.empty((16, width), dtype)
        self._low = self._high = 0

    @property
    def rows(self) -> NDArray[Any]:
        return self._data[self._low : self._high]

    def __len__(self) -> int:
        return self._high - self._low

    def add(self, rows: NDArray[Any]) -> None:
        n = len(rows)
        if self._high + n > len(self._data):
            room = np.empty((2 * (len(self) + n) + 16, self._data.shape[1]), self._data.dtype)
            room[: len(self)] = self.rows
            self._data, self._low, self._high = room, 0, len(self)
        self._data[self._high : self._high + n] = rows
        self._high += n

    def drop(self, n: int) -> None:
        self._low += n


class Track:
    """The past of one neuron from `start` on: segments (t, V, A, hold), absolute seconds, V and V/s."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.fresh = True
        self._segments = Growing(4)
        self._rows = Growing(1, np.int64)
        self._conditions = Growing(CONDITIONS + 1)
        self._dropped = 0

    def add(self, segments: FloatArray, conditions: FloatArray, v_dd: float) -> None:
        """Append segments that happened under one row of conditions and one supply."""
        row = np.append(conditions, v_dd)
        if not len(self._conditions) or not np.array_equal(self._conditions.rows[-1], row):
            self._conditions.add(row[None])
        self._segments.add(segments)
        self._rows.add(np.full((len(segments), 1), self._dropped + len(self._conditions) - 1))

    def forget(self, before: float) -> None:
        """Drop what is not needed for times at or after `before`."""
        self.start = max(self.start, before)
        if not len(self._segments):
            return
        gone = max(0, int(np.searchsorted(self._segments.rows[:, 0], before, side="right")) - 1)
        self._segments.drop(gone)
        self._rows.drop(gone)
        unused = int(self._rows.rows[0, 0]) - self._dropped
        self._conditions.drop(unused)
        self._dropped += unused

    def at(self, t: ArrayLike, now: float) -> tuple[FloatArray, FloatArray]:
        """(V_mem, OUT) in V at absolute times, any shape and order; raises `UsageError` outside `start` … `now`."""
        wanted = np.asarray(t, np.float64)
        flat = wanted.ravel()
        slack = 1e-12 * max(1.0, now)
        if flat.size and not (flat.min() >= self.start - slack and flat.max() <= now + slack):
            raise UsageError(
                f"t = {flat.min()} … {flat.max()} s is outside what was watched, {self.start} … {now} s;"
                " watch before, and forget later"
            )
        v, out = np.zeros(flat.size), np.zeros(flat.size, np.bool_)
        if not flat.size or not len(self._segments):
            return v.reshape(wanted.shape), np.zeros(wanted.shape)
        order = None if bool((flat[1:] >= flat[:-1]).all()) else np.argsort(flat, kind="stable")
        ascending = np.maximum(flat if order is None else flat[order], self._segments.rows[0, 0])
        rows = self._rows.rows[:, 0] - self._dropped
        conditions = self._conditions.rows
        trace(ascending, self._segments.rows, rows, conditions, v, out)
        which = rows[np.searchsorted(self._segments.rows[:, 0], ascending, side="right") - 1]
        high = np.where(out, conditions[which, -1], 0.0)
        if order is not None:
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            v, high = v[back], high[back]
        return v.reshape(wanted.shape), high.reshape(wanted.shape)
