"""`labctl fit filament`: the physical model from recorded I–V loops, and how well it repeats them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labctl.analysis.loops import set_reset_features
from labctl.errors import UsageError
from labctl.fitting import Sweep, sweeps
from labctl.models.device import FloatArray
from labctl.models.filament import FilamentParams
from labctl.models.fit import FEATURES
from labctl.models.fit_filament import FREE, SPREADS, FilamentFit, Loops, fit_filament, simulate
from labctl.models.parameter_file import load_params, save_params
from labctl.quantity import si
from labctl.reader import Run

MOST = 4
"""Staircases that are fitted at most: those with the most loops."""
_PROBABILITIES = (0.1, 0.5, 0.9)
_RESAMPLED = 200


class Quantiles(NamedTuple):
    """One feature: recorded at 10, 50 and 90 %, its 95 % interval from resampled cells, and the model's."""

    feature: str
    v_wl: float  # V, gate of the SET
    recorded: FloatArray  # (3,)
    low: FloatArray
    high: FloatArray
    model: FloatArray


@dataclass(frozen=True)
class CellFit:
    """A fitted filament model; `params` before and after, what was used, how well it does."""

    fit: FilamentFit
    start: FilamentParams
    quantiles: tuple[Quantiles, ...]
    notes: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the parameter file that a station names."""
        save_params(path, self.fit.params, f"fitted to {self.notes[0]}")

    def __str__(self) -> str:
        lines = [f"{'':12} {'gate':>7}" + "".join(f"{p:>12.0%}" for p in _PROBABILITIES)]
        for q in self.quantiles:
            unit = "ohm" if q.feature.startswith("r_") else "V"
            for label, row in (("recorded", q.recorded), ("95 % from", q.low), ("to", q.high), ("model", q.model)):
                first = f"{q.feature:8} {si(q.v_wl, 'V'):>8}" if label == "recorded" else " " * 17
                lines.append(f"{first} {label:10}" + "".join(f"{si(float(x), unit, 4):>12}" for x in row))
        lines.append(
            f"left of the curves, rms in ln|I|: {self.fit.mean:.3f} of the mean, "
            f"{self.fit.spread:.3f} of the spread from loop to loop"
        )
        lines.append("parameter: before, fitted")
        names = [*FREE, *(f"{kind}_{name}" for name in SPREADS for kind in ("c2c", "d2d"))]
        lines += [f"  {n:12} {getattr(self.start, n):12.4g} {getattr(self.fit.params, n):12.4g}" for n in names]
        return "\n".join(lines)


def fit_cell(runs: Sequence[Run], *, v_read: float = 0.2, like: Path | None = None, seed: int = 0) -> CellFit:
    """Fit the filament model to the I–V loops in `runs` of one chip.

    The first loop of each record is left out where there are more: nobody knows where it began. v_read: V, where
    resistances are compared. Raises `UsageError` when there are no loops, or too few to tell.
    """
    found = sweeps(runs)
    if not found:
        raise UsageError(
            "none of these runs has I–V loops (columns v, i, cycle); give runs of iv_sweep, or imported tables"
        )
    notes: list[str] = []
    loops = _staircases(found, notes)
    start = load_params(like, FilamentParams) if like else FilamentParams()
    fit = fit_filament(loops, start, seed)
    cells = len({s.cell for s in found})
    used = f"{sum(len(one.i) for one in loops)} I–V loops of {cells} cells, {len(loops)} staircases"
    quantiles = tuple(q for one in loops for q in _compare(one, fit.params, v_read, seed))
    return CellFit(fit, start, quantiles, (used, *notes))


def _staircases(found: Sequence[Sweep], notes: list[str]) -> list[Loops]:
    """Loops gathered by their staircase."""
    curves: dict[tuple[bytes, bytes, float], list[tuple[str, FloatArray, Sweep, FloatArray]]] = defaultdict(list)
    unknown = False
    for s in found:
        numbers = np.unique(s.cycle)
        for cycle in numbers[1:] if len(numbers) > 1 else numbers:
            at = s.cycle == cycle
            dwell = s.dwell if np.isfinite(s.dwell) else 2e-3
            unknown |= not np.isfinite(s.dwell)
            v = np.round(s.v[at], 4)
            curves[v.tobytes(), np.round(s.v_wl[at], 4).tobytes(), dwell].append((s.cell, v, s, s.i[at]))
    if unknown:
        notes.append("the time at each voltage is not told; taken as 2 ms, which moves the barriers by its logarithm")
    groups = sorted(curves.items(), key=lambda item: -len(item[1]))
    total = sum(len(members) for _, members in groups)
    if len(groups) > MOST:
        left = sum(len(members) for _, members in groups[MOST:])
        notes.append(f"{left} of {total} loops, of other staircases, are left out")
    out = []
    for (v_bytes, wl_bytes, dwell), members in groups[:MOST]:
        names = sorted({member[0] for member in members})
        out.append(
            Loops(
                np.frombuffer(v_bytes), np.frombuffer(wl_bytes), dwell, np.array([member[3] for member in members]),
                np.array([names.index(member[0]) for member in members]),
            )
        )  # fmt: skip
    return out


def _compare(one: Loops, params: FilamentParams, v_read: float, seed: int) -> list[Quantiles]:
    rng = np.random.default_rng(seed)
    recorded = _features(one.v, one.i, v_read)
    model = _features(one.v, simulate(params, one, seed + 1), v_read)
    units = one.cell if len(np.unique(one.cell)) > 2 else np.arange(len(one.i))  # cells, or loops where cells are few
    out = []
    for f, feature in enumerate(FEATURES):
        known = np.isfinite(recorded[:, f])
        x, y = recorded[known, f], model[np.isfinite(model[:, f]), f]
        if not (x.size and y.size):
            continue
        members = [np.flatnonzero(units[known] == name) for name in np.unique(units[known])]
        picks = rng.integers(0, len(members), (_RESAMPLED, len(members)))
        drawn = [np.quantile(x[np.concatenate([members[k] for k in pick])], _PROBABILITIES) for pick in picks]
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        gate = float(one.v_wl[int(np.argmax(one.v))])
        out.append(Quantiles(feature, gate, np.quantile(x, _PROBABILITIES), low, high, np.quantile(y, _PROBABILITIES)))
    return out


def _features(v: FloatArray, i: FloatArray, v_read: float) -> FloatArray:
    """(loops, 4): r_hrs, v_set, r_lrs, v_reset; nan where a loop does not switch."""
    cycle = np.repeat(np.arange(len(i)), len(v))
    return set_reset_features(np.tile(v, len(i)), i.ravel(), cycle, v_read).table()
