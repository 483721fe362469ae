"""Learn a device model's parameters from recorded runs: `labctl fit`.

What a run offers is told by its columns, whoever recorded it: ``v, i, cycle`` are I–V loops, ``r_lrs, r_hrs, cycle``
endurance. The cell is in columns ``row, column`` or ``cell``, or in the run's parameters, or is the file itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labctl.analysis.loops import reset_transitions, set_reset_features, state_curves
from labctl.errors import UsageError
from labctl.models.device import FloatArray
from labctl.models.fit_generative import GenerativeFit, fit_generative
from labctl.models.fit_missing import complete
from labctl.models.generative_params import DEFAULT, GenerativeParams, load
from labctl.reader import Run

ORDER, COMPONENTS = 10, 3
"""Of the published model; taken as far as the data carry them."""


class Sweep(NamedTuple):
    """The I–V loops of one cell in one run."""

    cell: str
    v: FloatArray  # (n,) V, = v_bl - v_sl
    i: FloatArray  # (n,) A
    cycle: NDArray[np.int_]  # (n,)
    v_wl: FloatArray  # (n,) V; nan where the run does not tell
    dwell: float  # s at each voltage; nan where the run does not tell


class States(NamedTuple):
    """The states of one cell in one endurance run."""

    cell: str
    cycle: NDArray[np.int_]  # (n,)
    r: FloatArray  # (n, 2) Ω: r_hrs, r_lrs; nan where one could not be read
    v_read: float  # V; nan where the run does not tell


@dataclass(frozen=True)
class ChipFit:
    """A fitted generative model, and what was and was not used for it, a line each."""

    fit: GenerativeFit
    notes: tuple[str, ...]


def sweeps(runs: Sequence[Run]) -> list[Sweep]:
    """The I–V loops in recorded runs, by cell; cycles with a reading beyond the largest range are left out."""
    found = []
    for run, table in _tables(runs, {"v", "i"}):
        good = np.isfinite(table["v"]) & np.isfinite(table["i"])
        if "status" in table:
            good &= np.isin(table["status"], ("ok", "below", "negative"))
        cycle = table["cycle"] if "cycle" in table else np.zeros(len(good), int)
        v_wl = table.get("v_wl", np.full(len(good), float(run.params.get("v_wl", np.nan))))
        for cell, at in _cells(run, table):
            bad = np.isin(cycle, np.unique(cycle[at & ~good]))
            keep = at & ~bad
            if keep.any():
                dwell = float(run.params.get("dwell", np.nan))
                parts = [np.asarray(x[keep], np.float64) for x in (table["v"], table["i"], v_wl)]
                found.append(Sweep(cell, parts[0], parts[1], cycle[keep].astype(int), parts[2], dwell))
    return found


def states(runs: Sequence[Run]) -> list[States]:
    """The states that endurance runs read, by cell."""
    return [
        States(
            cell,
            table["cycle"][at].astype(int),
            np.stack([table["r_hrs"][at], table["r_lrs"][at]], axis=1).astype(np.float64),
            float(run.params.get("v_read", np.nan)),
        )
        for run, table in _tables(runs, {"r_hrs", "r_lrs", "cycle"})
        for cell, at in _cells(run, table)
    ]


def fit_chip(
    runs: Sequence[Run],
    *,
    order: int | None = None,
    components: int | None = None,
    v_read: float = 0.2,
    like: GenerativeParams | None = None,
    seed: int = 0,
) -> ChipFit:
    """Fit the generative model to I–V and endurance runs of one chip.

    From I–V loops: all four features of a cycle, the curves, the shape of the RESET. From endurance runs, where their
    cycles were read one after the other: the resistances, their memory and their spread over cells; the switching
    voltages that go with them are drawn from what the I–V loops say, or else `like` (None: our default file).

    order, components: of the VAR and of the mixture of devices; None takes up to 10 and 3, as far as the data go.
    v_read: V, where resistances are read off loops. Raises `UsageError` when there is too little to fit.
    """
    notes: list[str] = []
    loops, cycles = sweeps(runs), states(runs)
    if not (loops or cycles):
        raise UsageError(
            "none of these runs has I–V loops (columns v, i, cycle) or states of cycles (r_hrs, r_lrs, cycle); "
            "give runs of iv_sweep or endurance, or imported tables with these columns"
        )
    base = load(DEFAULT) if like is None else like
    parts: dict[str, Any] = {}
    tables: list[FloatArray] = []
    if loops:
        base = _as_swept(base, loops)
        tables = _longest(
            [(s.cell, set_reset_features(s.v, s.i, s.cycle, v_read).table(), _steps(s.cycle)) for s in loops], notes
        )
        base, parts = _curves(base, loops, v_read, notes)
    records = _longest([(s.cell, s.r, _steps(s.cycle)) for s in cycles], notes)
    if not records:
        if cycles and not loops:
            raise UsageError(
                "no cell has two endurance cycles read one after the other; record with cycles read every one "
                "(per_decade 1000 reads the first 400), and 50 or more"
            )
        return _fit(tables, order, components, v_read, base, parts, notes, seed, "I–V loops")
    known = base
    try:
        if tables:
            known = _fit(tables, None, None, v_read, base, parts, [], seed, "I–V loops").fit.params
            notes.append(
                f"switching voltages are drawn from the I–V loops of {len(tables)} cells, given the resistances"
            )
    except UsageError as error:
        notes.append(f"the I–V loops do not tell the switching voltages: {error}")
    if known is base:
        notes.append("switching voltages are drawn from the file that was given to start from, given the resistances")
    read_at = {s.v_read for s in cycles if np.isfinite(s.v_read)}
    if len(read_at) > 1:
        raise UsageError(f"the endurance runs were read at {sorted(read_at)} V; give runs of one read voltage")
    at = read_at.pop() if read_at else v_read
    return _fit(complete(known, records, seed), order, components, at, known, {}, notes, seed, "endurance cycles")


def _fit(
    tables: list[FloatArray], order: int | None, components: int | None, v_read: float, like: GenerativeParams,
    parts: dict[str, Any], notes: list[str], seed: int, what: str,
) -> ChipFit:  # fmt: skip
    """Cut to one length, choose order and components, fit."""
    if not tables:
        raise UsageError(
            "no cell has two loops in a row that switch both ways and pass the read voltage; give whole I–V loops"
        )
    lengths = np.sort([len(t) for t in tables])[::-1]
    n = int(lengths[np.argmax(lengths * np.arange(1, len(lengths) + 1))])  # where most cycles are kept
    data = np.array([t[:n] for t in tables if len(t) >= n])
    if len(data) < len(tables):
        notes.append(f"{len(tables) - len(data)} of {len(tables)} cells have fewer than {n} cycles and are left out")
    most = min(ORDER, n // 5, len(data) * n // 320)
    if order is None and most < 1:
        raise UsageError(
            f"{_cells_of(len(data))} × {n} {what} are too few; record at least 50 cycles of each cell and 320 in all"
        )
    order = most if order is None else order
    components = max(1, min(COMPONENTS, len(data) // 20)) if components is None else components
    fit = fit_generative(data, order=order, components=components, v_read=v_read, like=like, seed=seed, **parts)
    memory, kinds = f"a memory of {order} cycle{'s' * (order > 1)}", f"{components} kind{'s' * (components > 1)}"
    used = f"{_cells_of(len(data))} × {n} {what}, {memory}, {kinds} of devices"
    return ChipFit(replace(fit, params=replace(fit.params, provenance=f"fitted to {used}")), (used, *notes))


def _cells_of(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _as_swept(base: GenerativeParams, loops: Sequence[Sweep]) -> GenerativeParams:
    """`base` with the sweeps' end as the voltage that completes a RESET, and their dwell as the pulse width."""
    end = float(np.median([-s.v.min() for s in loops]))
    dwells = [s.dwell for s in loops if np.isfinite(s.dwell)]
    timing = replace(base.timing, width=float(np.median(dwells))) if dwells else base.timing
    return replace(base, u_max=end, timing=timing) if end > 0 else base


def _curves(
    base: GenerativeParams, loops: Sequence[Sweep], v_read: float, notes: list[str]
) -> tuple[GenerativeParams, dict[str, Any]]:
    """`curves` and `transition` of `fit_generative`, as far as the loops give them; without, `base` is kept."""
    curves: list[FloatArray] = []
    transitions: list[FloatArray] = []
    for s in loops:
        try:
            curves.append(np.stack(state_curves(s.v, s.i, s.cycle, v_read)))
            transitions.append(np.stack(reset_transitions(s.v, s.i, s.cycle, v_read)))
        except UsageError:
            continue
    if not curves:
        notes.append("no loop gives an I–V curve; those of the file that was given to start from are kept")
        return base, {}
    parts: dict[str, Any] = {"curves": tuple(np.concatenate(curves, axis=1))}
    transition = np.concatenate(transitions, axis=1)
    if transition.shape[1] and _reaches(transition, base.u_max):
        parts["transition"] = tuple(transition)
    else:
        notes.append("no RESET has five samples of its way; its exponent is that of the file given to start from")
    return base, parts


def _reaches(transition: FloatArray, u_max: float) -> bool:
    """Whether a RESET has five samples from its start to -u_max."""
    v, _, start = transition
    edges = [0, *(np.flatnonzero((np.diff(start) != 0) | (np.diff(v) >= 0)) + 1), len(v)]
    return any(b - a >= 5 and -v[b - 1] >= u_max for a, b in pairwise(edges))


def _longest(found: list[tuple[str, FloatArray, NDArray[np.bool_]]], notes: list[str]) -> list[FloatArray]:
    """Of each cell the longest stretch of consecutive cycles, at most a tenth of them incomplete, and those filled.

    found: cell, (cycles, features), whether each cycle follows the one before. An incomplete cycle (one that did not
    switch, a reading out of range) gets the features of another cycle of its stretch, so the marginals stay.
    """
    best: dict[str, FloatArray] = {}
    filled = total = 0
    for cell, table, follows in found:
        edges = [0, *(np.flatnonzero(~follows[1:]) + 1), len(table)]
        for part in (table[a:b] for a, b in pairwise(edges)):
            whole = _mostly_whole(part)
            if len(whole) > len(best.get(cell, table[:0])):
                best[cell] = whole
    for table in best.values():
        bad = ~np.isfinite(table).all(axis=1)
        filled, total = filled + int(bad.sum()), total + len(table)
        if bad.any():
            rng = np.random.default_rng(len(table))
            table[bad] = table[rng.choice(np.flatnonzero(~bad), int(bad.sum()))]
    if filled:
        notes.append(
            f"{filled} of {total} cycles are incomplete and take the place of others of their cell, which weakens the "
            f"memory by up to {2 * filled / total:.0%}"
        )
    used = {cell: table for cell, table in best.items() if len(table) > 1 and (table.std(axis=0) > 0).all()}
    if missing := sorted({cell for cell, _, _ in found} - set(used)):
        notes.append(f"left out, no two complete cycles in a row: {', '.join(missing[:8])}{' …' * (len(missing) > 8)}")
    return list(used.values())


def _mostly_whole(part: FloatArray) -> FloatArray:
    """The longest stretch with at most a tenth of incomplete cycles, none of them at its ends."""
    good = np.asarray(np.isfinite(part).all(axis=1))
    surplus = np.concatenate([[0], np.cumsum(np.where(good, 1, -9))])  # a stretch that gains is whole enough
    least = np.minimum.accumulate(surplus)
    starts = np.searchsorted(-least, -surplus, side="left")  # the first place from which the surplus has not fallen
    end = int(np.argmax(np.arange(len(surplus)) - starts))
    inside = np.flatnonzero(good[starts[end] : end]) + starts[end]
    return part[inside[0] : inside[-1] + 1].copy() if len(inside) else part[:0].copy()


def _steps(cycle: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Whether each distinct cycle follows the one before it."""
    numbers = cycle[np.concatenate([[True], np.diff(cycle) != 0])]
    return np.concatenate([[False], np.diff(numbers) == 1])


def _tables(runs: Sequence[Run], wanted: set[str]) -> list[tuple[Run, dict[str, NDArray[Any]]]]:
    """Each table that has these columns, with its run."""
    return [
        (run, run.table(name))
        for run in runs
        for name in run.tables
        if wanted <= set(run.units(name)) and run.row_count(name)
    ]


def _cells(run: Run, table: dict[str, NDArray[Any]]) -> list[tuple[str, NDArray[np.bool_]]]:
    """The cells in a table, with the rows of each; a cell comes again for each `sweep`, which counts cycles anew."""
    if "sweep" in table and len(np.unique(table["sweep"])) > 1:
        rest = {name: values for name, values in table.items() if name != "sweep"}
        parts = [table["sweep"] == sweep for sweep in np.unique(table["sweep"])]
        return [(cell, at & part) for cell, at in _cells(run, rest) for part in parts if (at & part).any()]
    station = run.header.get("station", {}).get("name", "")
    if "row" in table and "column" in table:
        keys = np.stack([table["row"], table["column"]], axis=1)
        return [
            (f"{station} ({row}, {column})", (keys == (row, column)).all(axis=1))
            for row, column in np.unique(keys, axis=0).tolist()
        ]
    if "cell" in table:
        return [(f"{station} {cell}", table["cell"] == cell) for cell in np.unique(table["cell"]).tolist()]
    whole = np.ones(len(next(iter(table.values()))), bool)
    row, column = run.params.get("row"), run.params.get("column")
    if row is None or column is None:
        return [(str(run.path), whole)]
    return [(f"{station} ({row}, {column})", whole)]
