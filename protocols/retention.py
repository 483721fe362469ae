"""Retention: the same cells read again and again over a long time; requested and actual times are both kept."""

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import AVERAGE, COLUMN, COLUMNS, ROW, ROWS, STATUS, V_READ, V_WL_READ, G
from labctl.errors import UsageError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run, load

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from labctl.analysis.estimate import Estimate


class Sample(NamedTuple):
    """One cell at one of the times."""

    scan: A[int, Q("", meaning="number of the scan, from 0")]
    requested: A[float, Q("s", meaning="when the scan was due, after the first")]
    t: A[float, Q("s", meaning="when the cell was sampled, after the first sample of the first scan")]
    row: A[int, ROW]
    column: A[int, COLUMN]
    g: A[float, G]
    status: A[str, STATUS]


def plot(run: Run, figure: "Figure") -> None:
    """Conductance against time with each cell's drift law; their exponents, or Arrhenius' law over several runs."""
    from labctl.analysis.retention import drift

    table, p = run.table(), run.params
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    exponents = []
    for cell in sorted(set(zip(table["row"].tolist(), table["column"].tolist(), strict=True))):
        at = (table["row"] == cell[0]) & (table["column"] == cell[1]) & (table["status"] == "ok")
        later = at & (table["scan"] > 0)  # the first scan is where the time begins: a law in ln t leaves it out
        [points] = left.semilogx(np.maximum(table["t"][at], 1e-3), table["g"][at] * 1e6, ".", markersize=5)
        if len(np.unique(table["t"][later])) < 3:
            continue
        law, t = drift(table["t"][later], table["g"][later]), np.sort(table["t"][later])
        left.semilogx(t, [law.at(time).value * 1e6 for time in t], linewidth=0.8, color=points.get_color())
        exponents.append(law.nu)
    title = f"retention at {p['temperature']:g} K; lines: G ∝ t$^{{−ν}}$"
    left.set(xlabel="time after the first scan (s)", ylabel="conductance (µS)", title=title)
    if p.get("compare"):
        draw_arrhenius([run, *(load(path.strip()) for path in p["compare"].split(","))], right)
    else:
        draw_exponents(exponents, right)
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)


def draw_exponents(exponents: "list[Estimate]", axes: "Axes") -> None:
    """Their distribution over the cells."""
    exponents.sort()
    values, share = [nu.value for nu in exponents], (np.arange(len(exponents)) + 0.5) / max(len(exponents), 1)
    spread = [[nu.value - nu.low for nu in exponents], [nu.high - nu.value for nu in exponents]]
    axes.errorbar(values, share, xerr=spread, fmt=".", elinewidth=0.6)
    axes.axvline(0, color="gray", linewidth=0.8)
    what = f"ν of {len(exponents)} cells, 95 %" if exponents else "no cell was read at three times: no law"
    axes.set(xlabel="drift exponent ν (> 0: G falls)", ylabel="share of the cells below", ylim=(0, 1), title=what)


def draw_arrhenius(runs: Sequence[Run], axes: "Axes") -> None:
    """Time to loss against temperature: cells that left the band, and the activation energy."""
    from labctl.analysis.estimate import pivot
    from labctl.analysis.retention import BOLTZMANN_EV, arrhenius, failures

    kelvin, lost = [], []
    for run in runs:
        table, loss = run.table(), runs[0].params["loss"]
        cells = np.stack([table["row"], table["column"]], axis=1)
        g, t = (pivot(cells, table["scan"], table[name])[:, 1:] for name in ("g", "t"))
        first = table["g"][table["scan"] == 0]
        sure = np.isfinite(first)
        if not sure.any():
            continue
        times = failures(t[sure].mean(0), g[sure], first[sure] * (1 - loss), first[sure] * (1 + loss))
        gone = times.failed & (times.t > 0)
        kelvin += [run.params["temperature"]] * int(gone.sum())
        lost += times.t[gone].tolist()
    axes.semilogy(1 / (BOLTZMANN_EV * np.array(kelvin)), lost, ".")
    title = f"loss of {runs[0].params['loss']:.0%} of G"
    try:
        law = arrhenius(kelvin, lost)
        x = np.linspace(1 / (BOLTZMANN_EV * max(kelvin)), 1 / (BOLTZMANN_EV * min(kelvin)), 50)
        axes.semilogy(x, np.exp([law.law.at(q).value for q in x]))
        title += f"\nE_a = {law.energy.value:.3g} ({law.energy.low:.3g} … {law.energy.high:.3g}) eV"
    except UsageError as error:
        title += "\n" + fill(f"no energy: {error}", 45)
    axes.set(xlabel="1/kT (1/eV)", ylabel="time to loss (s)", title=title)


@protocol(total=lambda rows, columns, times, **_: len(rows) * len(columns) * (len(times) + 1), plot=plot)
def retention(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0, 1, 2, 3),
    times: A[Sequence[float], Q("s", 0, 1e8, "when to scan again, after the first scan")] = (
        0.01,
        0.1,
        1.0,
        10.0,
        60.0,
    ),
    temperature: A[float, Q("K", 1, 1000, "of the chip, as metadata: the bench does not set it")] = 300.0,
    compare: A[str, Q("", meaning="runs at other temperatures, FILE.h5,FILE.h5: the picture fits Arrhenius' law")] = "",
    loss: A[float, Q("", 1e-3, 1, "relative change of G that the picture counts as lost")] = 0.2,
    v_read: A[float, V_READ] = 0.2,
    v_wl: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 64,
) -> Iterator[Sample]:
    """Read the selected cells at the requested times; a scan that is late is taken at once and its time says so."""
    cells = bench.cells(rows, columns, revisit=True)
    tick, start = bench.board.identity.tick, 0.0
    with bench.powered():
        for scan, requested in enumerate((0.0, *sorted(times))):
            if scan:
                bench.wait(max(0.0, start + requested - bench.now()))
            for cell in cells:
                [reading] = cell.program().read(v_read, v_wl, average).run()
                start = start or reading.tick * tick
                t = reading.tick * tick - start
                yield Sample(scan, requested, t, cell.row, cell.column, reading.g, reading.status)
