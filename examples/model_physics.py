"""The physical 1T1R cell against what recorded arrays show, on one page: `python examples/model_physics.py [PNG]`.

Lines and dots are the model, open squares the recorded values (1T1R arrays, medians unless a quantile is named).
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from labctl.models.effects import Effects
from labctl.models.filament import FilamentArray, FilamentParams

QUIET = Effects(rtn=0.0, read_noise=0.0, relaxation=0.0)
IDEAL = FilamentParams().ideal()
MODEL, RECORDED = "tab:blue", {"marker": "s", "mfc": "none", "ls": "", "color": "tab:red", "ms": 7}


def ohms(array: FilamentArray, cells: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """Resistance at 0.2 V, gate open."""
    return 0.2 / array.read(0.2, 0.0, 3.5, 0.0, cells)


def do_set(array: FilamentArray) -> None:
    """The SET of the cycling."""
    array.pulse(3.0, 0.0, 3.3, 1e-6)


def do_reset(array: FilamentArray) -> None:
    """The RESET of the cycling."""
    array.pulse(0.0, 2.4, 3.5, 2e-6)


def gap_at(resistance: float) -> float:
    """Gap (nm) at which the cell reads `resistance`."""
    array, gaps = FilamentArray((400,), params=IDEAL, effects=Effects.none()), np.linspace(0.3, 3.0, 400)
    array.set_gap(gaps)
    return float(np.interp(np.log(resistance), np.log(ohms(array)), gaps))


def forming(ax: Axes) -> None:
    """BL voltage that forms."""
    array = FilamentArray((5000,), seed=1, effects=QUIET, formed=False)
    volts = np.full(array.size, np.nan)
    for v_bl in np.arange(2.0, 4.2, 0.05):
        todo = np.flatnonzero(np.isnan(volts))
        if todo.size:
            array.pulse(float(v_bl), 0.0, 2.0, 40e-6, todo)
            volts[todo[ohms(array, todo) < 50e3]] = v_bl
    ax.plot(np.sort(volts), np.linspace(0, 100, volts.size), color=MODEL)
    ax.plot([2.85, 3.15, 3.4], [10, 50, 90], **RECORDED)  # type: ignore[arg-type]
    r = np.percentile(ohms(array), [10, 50, 90]) / 1e3
    ax.set(xlabel="BL voltage (V)", ylabel="cells formed (%)", xlim=(2.2, 3.9))
    ax.set_title(f"forming, WL 2.0 V; R = {r[0]:.1f} / {r[1]:.1f} / {r[2]:.1f} kΩ\n(recorded 5.9 / 7.3 / 14 kΩ)")


def lrs(ax: Axes) -> None:
    """LRS against the gate voltage."""
    array = FilamentArray((4000,), seed=2, effects=QUIET)
    do_set(array)
    do_reset(array)
    start, gates = array.state(), np.arange(2.2, 3.11, 0.05)
    found = []
    for v_wl in gates:
        array.restore(start)
        array.pulse(2.0, 0.0, float(v_wl), 100e-9)
        found.append(np.median(ohms(array)))
    ax.semilogy(gates, np.array(found) / 1e3, color=MODEL)
    ax.plot([2.3, 2.4, 2.5, 2.7, 3.0], [52, 16, 9.3, 6.0, 5.1], **RECORDED)  # type: ignore[arg-type]
    ax.set(xlabel="WL voltage (V)", ylabel="R (kΩ)", title="one SET of BL 2 V, 100 ns, from HRS")


def reset(ax: Axes) -> None:
    """RESET against the source-line voltage."""
    array = FilamentArray((4000,), seed=3, effects=QUIET)
    do_reset(array)
    do_set(array)
    array.set_gap(gap_at(6e3))
    start, volts = array.state(), np.arange(0.5, 1.71, 0.05)
    quantiles = []
    for v_sl in volts:
        array.restore(start)
        array.pulse(0.0, float(v_sl), 3.5, 200e-9)
        quantiles.append(np.percentile(ohms(array), [25, 50, 75]) / 1e3)
    low, middle, high = np.transpose(quantiles)
    ax.fill_between(volts, low, high, color=MODEL, alpha=0.2, lw=0)
    ax.semilogy(volts, middle, color=MODEL)
    ax.plot([0.8, 0.95, 1.25, 1.55], [6.5, 12, 29, 51], **RECORDED)  # type: ignore[arg-type]
    ax.set(xlabel="SL voltage (V)", ylabel="R (kΩ)", title="one RESET of 200 ns, WL 3.5 V, from 6 kΩ")


def cycling(ax: Axes) -> None:
    """HRS and LRS over devices and cycles."""
    array, high, low = FilamentArray((400,), seed=4, effects=QUIET), [], []
    for _ in range(60):
        do_reset(array)
        high.append(np.log(ohms(array)))
        do_set(array)
        low.append(np.log(ohms(array)))
    texts = []
    for name, samples in (("HRS", np.array(high)), ("LRS", np.array(low))):
        r = np.exp(np.sort(samples.ravel())) / 1e3
        ax.semilogx(r, np.linspace(0, 100, r.size), color=MODEL)
        within = samples.var(axis=0, ddof=1).mean()
        between = np.sqrt(samples.mean(axis=0).var(ddof=1) - within / 60)
        texts.append(f"{name} {np.sqrt(within):.2f} / {between:.2f}")
    ax.plot([15, 92.5, 370], [10, 50, 90], **RECORDED)  # type: ignore[arg-type]
    ax.plot([4.95], [50], **RECORDED)  # type: ignore[arg-type]
    ax.set(xlabel="R (kΩ)", ylabel="cumulated (%)")
    ax.set_title(f"cycling; σ(ln R) C2C / D2D: {', '.join(texts)}\n(recorded 0.75 / 0.9, 0.13 / ≥ 0.10)")


def relaxation(ax: Axes) -> None:
    """Spread and mean of the conductance after programming."""
    levels = np.linspace(2e-6, 126e-6, 32)
    array = FilamentArray((32, 400), seed=5, params=IDEAL, effects=Effects(rtn=0.0, read_noise=0.0))
    array.set_gap(np.repeat(IDEAL.g_0 * np.log(IDEAL.i_0 / IDEAL.v_0 / levels), 400))
    start = array.read(0.05, 0.0, 4.0, 0.0).reshape(32, 400) / 0.05
    times, sigma, mean, elapsed = np.logspace(-3, 5, 33), [], [], 0.0
    for t in times:
        array.wait(float(t) - elapsed)
        elapsed = float(t)
        moved = array.read(0.05, 0.0, 4.0, 0.0).reshape(32, 400) / 0.05 - start
        sigma.append(moved.std(axis=1).mean())
        mean.append(moved.mean())
    ax.semilogx(times, np.array(sigma) * 1e6, color=MODEL, label="σ")
    ax.semilogx(times, np.array(mean) * 1e6, color=MODEL, ls="--", label="mean")
    ax.plot([1e-2, 1, 1e4], [2.3, 4.5, 7.8], **RECORDED)  # type: ignore[arg-type]
    ax.plot([1e-2, 1e4], [-0.1, -1.3], **RECORDED)  # type: ignore[arg-type]
    ax.set(xlabel="time since programming (s)", ylabel="ΔG (µS)", title="relaxation over 32 levels to 128 µS")
    ax.legend(frameon=False)


def thresholds(ax: Axes) -> None:
    """Voltages of switching against the width of the pulse."""
    widths = np.logspace(-8, -3, 16)
    low, high = gap_at(5e3), gap_at(92e3)
    for name, colour in (("SET, WL 2.7 V", "tab:green"), ("RESET, WL 3.5 V", "tab:purple")):
        volts, found = np.arange(0.3, 3.2, 0.01), []
        for width in widths:
            array = FilamentArray((volts.size,), params=IDEAL, effects=Effects.none())
            array.set_gap(high if name.startswith("SET") else low)
            if name.startswith("SET"):
                array.pulse(volts, 0.0, 2.7, float(width))
                found.append(volts[np.argmax(ohms(array) < 21e3)])
            else:
                array.pulse(0.0, volts, 3.5, float(width))
                found.append(volts[np.argmax(ohms(array) > 21e3)])
        ax.semilogx(widths, found, color=colour, marker=".", label=name)
    ax.set(xlabel="pulse width (s)", ylabel="voltage to 21 kΩ (V)", title="switching moves with log(width)")
    ax.legend(frameon=False)


def loops(ax: Axes) -> None:
    """Quasi-static loops with the gate as compliance."""
    array = FilamentArray((6,), seed=6, effects=replace(Effects(), relaxation=0.0))
    up = np.arange(0, 2.501, 0.02)
    for gate, colour in ((1.6, "tab:orange"), (2.0, MODEL)):
        array.pulse(0.0, 1.6, 3.5, 1e-3)
        v = np.concatenate([up, up[::-1]])
        i = array.waveform(np.arange(v.size) * 1e-4, v, 0.0, gate)
        ax.semilogy(v, np.abs(i[:, :3]) + 1e-9, color=colour, lw=0.8)
        back = np.concatenate([up[up <= 1.6], up[up <= 1.6][::-1]])
        i = array.waveform(np.arange(back.size) * 1e-4, 0.0, back, 3.5)
        ax.semilogy(-back, np.abs(i[:, :3]) + 1e-9, color=colour, lw=0.8)
    ax.set(xlabel="V_BL − V_SL (V)", ylabel="|I| (A)", ylim=(1e-7, 2e-3))
    ax.set_title("loops of three cells, 20 mV a 0.1 ms\nWL 1.6 V (orange), 2.0 V (blue) in SET")


def telegraph(ax: Axes) -> None:
    """Read traces of cells in LRS and HRS."""
    array = FilamentArray((8,), seed=10, effects=replace(Effects(), relaxation=0.0))
    do_set(array)
    array.pulse(0.0, 2.0, 3.5, 1e-6, np.arange(4))
    trace = []
    for _ in range(2000):
        array.wait(0.0025)
        trace.append(array.read(0.2, 0.0, 3.5, 200.0))
    g = np.array(trace)
    for k, cell in enumerate((0, 1, 4, 5)):
        relative = g[:, cell] / g[:, cell].mean() - 1
        colour = "tab:purple" if cell < 4 else "tab:green"
        ax.plot(np.arange(2000) * 0.0025, relative * 100 + 25 * k, lw=0.6, color=colour)
    ax.set(xlabel="time (s)", ylabel="ΔI/I (%), offset by 25", title="RTN: HRS (purple), LRS (green)")


def endurance(ax: Axes) -> None:
    """A million cycles of four cells, read at log-spaced cycles; life shortened to show the end."""
    effects = replace(QUIET, endurance_life=2e5)
    array = FilamentArray((4,), seed=12, effects=effects)
    edges = np.unique(np.round(np.logspace(0, 5.3, 60)).astype(int))
    for cell, colour in enumerate(("tab:blue", "tab:orange", "tab:green", "tab:purple")):
        done, high, low = 0, [], []
        for edge in edges:
            n = int(edge - done)
            i = array.pulses(
                np.tile([0.0, 0.2, 3.0, 0.2], n), np.tile([2.4, 0.0, 0.0, 0.0], n), np.tile([3.5, 3.5, 3.3, 3.5], n),
                np.tile([2e-6, 0.0, 1e-6, 0.0], n), cell,
            )  # fmt: skip
            high.append(np.exp(np.mean(np.log(0.2 / i[1::4][-200:]))))
            low.append(np.exp(np.mean(np.log(0.2 / i[3::4][-200:]))))
            done = int(edge)
        ax.loglog(edges, np.array(high) / 1e3, color=colour)
        ax.loglog(edges, np.array(low) / 1e3, color=colour, ls="--")
    ax.set(xlabel="cycles", ylabel="R (kΩ), mean of 200 cycles", title="endurance with life set to 2e5 cycles")


def main(path: Path) -> None:
    """Draw the page."""
    figure, axes = plt.subplots(3, 3, figsize=(14, 11.5), layout="constrained")
    panels = (forming, lrs, reset, cycling, relaxation, thresholds, loops, telegraph, endurance)
    for panel, ax in zip(panels, axes.flat, strict=True):
        panel(ax)
        ax.title.set_fontsize(10)
        ax.grid(alpha=0.25)
    figure.suptitle("The filament cell: model (lines) and recorded 1T1R arrays (red squares)")
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/models-physics.png"))
