"""Calibration of a chip's neurons from measurements alone, and what it is worth.

run = labctl.run("lif_calibrate", bench)
known = calibration.from_run(run)       # from labctl import calibration
bench.bias(v_thr=known.v_thr(neuron=3, rate=5e3, i_syn=20e-6))
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np
from numpy.typing import NDArray

from drivers.bench import Bench
from drivers.neuron import NeuronPort
from labctl.analysis.neurons import BIASES, LawFit, NeuronLaw, fit_law, typical
from labctl.errors import MeasurementError, ParameterError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUCK_HIGH, STUCK_LOW, SILENT, POOR = "stuck high", "stuck low", "silent", "residual too large"
FIFO = 50_000
"""Time stamps that are safe to ask for at once."""
LAW = tuple(field.name for field in fields(NeuronLaw) if field.name not in ("i_syn", "slew", "u_t"))
NAN = float("nan")


class Neuron(NamedTuple):
    """One neuron: the verdict, how well its law holds, and the law. NaN where there is none."""

    neuron: A[int, Q("", meaning="input neuron")]
    verdict: A[str, Q("", meaning="ok, stuck high, stuck low, silent, or residual too large")]
    residual: A[float, Q("", meaning="rms relative deviation of the measured periods from the law")]
    jitter: A[float, Q("", meaning="relative charge jitter of a read pulse, by the spread of the first spike")]
    v_os: A[float, Q("V", meaning="comparator offset: it fires at V_thr + v_os")]
    t_lat: A[float, Q("s", meaning="latency from crossing to OUT")]
    t_d: A[float, Q("s", meaning="dead time after the onset of a current")]
    l_n0: A[float, Q("V/s", meaning="downward leak slope at V_taun = 1.2 V")]
    s_n: A[float, Q("V", meaning="change of V_taun that makes the downward leak e times larger")]
    l_p0: A[float, Q("V/s", meaning="upward leak slope at V_taup = 1.2 V")]
    s_p: A[float, Q("V", meaning="the same for V_taup and the upward leak; negative: a higher V_taup leaks less")]
    q: A[float, Q("s", meaning="pulse-width law T_pw = q/ln²(1 + exp((V_pw − v_tp)/(2·n·U_T)))")]
    v_tp: A[float, Q("V", meaning="pulse-width law: threshold")]
    n: A[float, Q("", meaning="pulse-width law: slope factor")]


class Slew(NamedTuple):
    """The slew of one neuron at one current."""

    neuron: A[int, Q("", meaning="input neuron")]
    i_syn: A[float, Q("A", meaning="synaptic current")]
    slew: A[float, Q("V/s", meaning="dV/dt of the membrane without leak")]


class Period(NamedTuple):
    """One measured period of one neuron."""

    neuron: A[int, Q("", meaning="input neuron")]
    i_syn: A[float, Q("A", meaning="synaptic current, DC; 0: spontaneous")]
    v_thr: A[float, Q("V", meaning="threshold")]
    v_pw: A[float, Q("V", meaning="pulse-width bias")]
    v_rest: A[float, Q("V", meaning="resting potential")]
    v_taun: A[float, Q("V", meaning="downward leak bias")]
    v_taup: A[float, Q("V", meaning="upward leak bias")]
    period: A[float, Q("s", meaning="median inter-spike interval by time stamps; NaN below three spikes")]


class Check(NamedTuple):
    """One neuron at the requested point, before and after, measured."""

    neuron: A[int, Q("", meaning="input neuron")]
    rate_before: A[float, Q("Hz", meaning="with the threshold of a typical neuron")]
    v_thr: A[float, Q("V", meaning="threshold that the calibration asks for")]
    rate: A[float, Q("Hz", meaning="with that threshold, at the requested current")]
    i_trim: A[float, Q("A", meaning="current that the calibration asks for, at the typical threshold")]
    rate_trim: A[float, Q("Hz", meaning="with that current, all neurons at once")]


class Operating(NamedTuple):
    """Where a period is measured."""

    i_syn: float
    v_thr: float
    v_pw: float = 1.0
    v_rest: float = 0.6
    v_taun: float = 1.2
    v_taup: float = 1.2


def plan(i_syn: Sequence[float]) -> list[Operating]:
    """Operating points that determine every law: slews and offset, pulse width, leak down, leak up."""
    points = [Operating(current, v_thr) for current in i_syn for v_thr in (0.5, 0.9, 1.4)]
    points += [Operating(max(i_syn), 0.9, v_pw=v_pw) for v_pw in (0.45, 0.55, 0.7, 0.85, 1.2, 1.4)]
    # V_rest = 0: the whole way up is above rest, so only the downward leak acts; at V_taun = 0.9 there is none
    points += [
        Operating(current, 0.9, v_rest=0.0, v_taun=v_taun)
        for v_taun, current in ((1.1, 0.2e-6), (1.2, 0.5e-6), (1.3, 2e-6))
        for v_taun in (0.9, v_taun)
    ]
    # no current, and a threshold below V_rest: the upward leak alone makes it fire
    points += [Operating(0.0, v_thr, v_taup=v_taup) for v_taup in (1.1, 1.2, 1.3) for v_thr in (0.05, 0.15)]
    return points


def plot(run: Run, figure: "Figure") -> None:
    """Slews of all neurons, and the requested rate before and after."""
    slews, check, (left, right) = run.table("slew"), run.table("check"), figure.subplots(1, 2)
    for number in np.unique(slews["neuron"]):
        at = slews["neuron"] == number
        left.loglog(slews["i_syn"][at] * 1e6, slews["slew"][at], "-", linewidth=0.8)
    left.set(xlabel="I$_{syn}$ (µA)", ylabel="slew (V/s)", title="slew of each neuron")
    left.grid(True, which="both", alpha=0.3)
    wanted = run.params["rate"]
    for name, label, mark in (
        ("rate_before", "typical threshold", "x"),
        ("rate_trim", "own current", "^"),
        ("rate", "own threshold", "o"),
    ):
        spread = np.std(check[name]) / wanted if len(check[name]) else NAN
        right.plot(check["neuron"], check[name] / 1e3, mark, label=f"{label}: spread {spread * 100:.2g} %")
    right.axhline(wanted / 1e3, color="gray", linewidth=0.8)
    right.set(
        xlabel="neuron",
        ylabel="rate (kHz)",
        title=f"{wanted / 1e3:g} kHz at {run.params['i_syn'] * 1e6:g} µA was asked",
    )
    right.grid(True, alpha=0.3)
    right.legend(fontsize=8)


@protocol(total=lambda neuron, **_: len(neuron), plot=plot)
def lif_calibrate(
    bench: Bench,
    neuron: A[Sequence[int], Q("", 0, 31, "input neurons to calibrate, all at once")] = tuple(range(16)),
    currents: A[Sequence[float], Q("A", 1e-6, 200e-6, "currents at which the slew is measured")] = (
        2e-6,
        4e-6,
        6e-6,
        8e-6,
        10e-6,
        14e-6,
        20e-6,
        35e-6,
        70e-6,
        120e-6,
        200e-6,
    ),
    rate: A[float, Q("Hz", 1, 100e3, "rate that is requested at the end, to see what the calibration is worth")] = 5e3,
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current at which it is requested")] = 20e-6,
    residual: A[float, Q("", 1e-5, 1, "largest rms deviation from its law of a neuron that counts as ok")] = 0.01,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference; at the typical 2.4 V only 90 µA fit below V_dd")] = 1.0,
) -> Iterator[Neuron | Slew | Period | Check]:
    """Slew against current, offset, latency, leaks, pulse-width law and dead time of every neuron, by the board.

    All neurons are driven at once and their spikes time-stamped: periods at some sixty operating points, then the
    time from the onset of a current to the first spike. Neurons that do not work are told apart: OUT high without
    input (stuck high), no spikes but a membrane that moves as the threshold of a healthy neighbour (stuck low), or not
    (silent). At the end the requested rate is measured with a typical neuron's threshold, and with each neuron's own.
    """  # fmt: skip
    port = NeuronPort(bench, *neuron)
    with bench.powered(v_ref=v_ref):
        verdicts = broken(bench, neuron)
        good = [k for k in neuron if k not in verdicts]
        table = plan(sorted({*currents, i_syn}))
        periods = {k: np.full(len(table), NAN) for k in good}
        if good:
            port = NeuronPort(bench, *good)
            for j, point in enumerate(table):
                for k, seconds in measure(bench, port, point).items():
                    periods[k][j] = seconds
                    yield Period(k, *point, seconds)
        at = {name: np.array([getattr(point, name) for point in table]) for name in BIASES}
        currents_at = np.array([point.i_syn for point in table])
        fits: dict[int, LawFit] = {}
        for k in good:
            seen = np.isfinite(periods[k])
            try:
                fits[k] = fit_law(currents_at[seen], periods[k][seen], {name: at[name][seen] for name in BIASES})
            except MeasurementError:
                verdicts[k] = POOR
        dead = dead_times(bench, {k: fit.law for k, fit in fits.items()}, max(currents)) if fits else {}
        laws: dict[int, NeuronLaw] = {}
        for k in neuron:
            if k not in fits:
                yield Neuron(k, verdicts[k], *[NAN] * (len(LAW) + 2))
                continue
            t_d, jitter = dead[k]
            law = fits[k].law
            numbers = {name: getattr(law, name) for name in LAW} | {"t_d": t_d}
            if fits[k].rms <= residual and np.isfinite(t_d):
                laws[k] = law
            yield Neuron(k, "ok" if k in laws else POOR, fits[k].rms, jitter, **numbers)
            for current, slew in zip(law.i_syn, law.slew, strict=True):
                yield Slew(k, current, slew)
        yield from check(bench, laws, rate, i_syn)


def broken(bench: Bench, neurons: Sequence[int]) -> dict[int, str]:
    """Neuron → what is wrong with it, for those that give no spikes; a healthy one looks at their membranes."""
    port = NeuronPort(bench, *neurons)
    port.rest()
    verdicts = {k: STUCK_HIGH for k, high in port.high().items() if high}
    limit = bench.station.limits["i_syn"]
    most = min(limit, min((bench.volts("VDD") - bench.volts("VREF")) / bench.r_syn(k) for k in neurons))
    port.inject(0.999 * most)
    counts = bench.count(list(neurons), 5e-3).counts
    port.release()
    healthy = [k for k in neurons if counts[k]]
    for k in neurons:
        if counts[k] or k in verdicts:
            continue
        verdicts[k] = SILENT
        if healthy:
            witness = NeuronPort(bench, healthy[0])
            with witness.threshold_from(k):
                seen = []
                for current in (0.0, 0.999 * most):
                    bench.inputs({healthy[0]: 20e-6, k: current})
                    seen.append(bench.count([healthy[0]], 20e-3, settle=5e-3).counts[healthy[0]])
                bench.inputs({healthy[0]: 0.0, k: 0.0})
            if seen[1] > 1.1 * seen[0]:  # its resets pull the witness's threshold down again and again
                verdicts[k] = STUCK_LOW
    return verdicts


def measure(bench: Bench, port: NeuronPort, point: Operating) -> dict[int, float]:
    """The median period of each neuron of the port, NaN below three spikes; gate and settling by what is typical."""
    law = typical()
    bench.bias(**{name: getattr(point, name) for name in BIASES})
    port.inject(point.i_syn)
    slew = float(law.slew_at(point.i_syn)) if point.i_syn else 0.0
    expected = float(law.period(slew, point._asdict()))
    gate = max(10 * expected, 1e-3)
    if len(port.numbers) * 1.5 * gate / expected > FIFO:
        gate = FIFO * expected / (1.5 * len(port.numbers))
    spikes = bench.count(port.numbers, gate, settle=3 * expected, stamps=True)
    found = {}
    for k in port.numbers:
        isi = spikes.isi(k)
        found[k] = float(np.mean(isi)) if len(isi) >= 2 else NAN
    return found


def dead_times(bench: Bench, laws: Mapping[int, NeuronLaw], i_syn: float) -> dict[int, tuple[float, float]]:
    """Neuron → dead time (s) and charge jitter, from the first spike after the onset of a current at rest."""
    port, repeats, period = NeuronPort(bench, *laws), 12, 0.1
    biases = {**bench.station.biases, "v_taun": 1.3}  # leaks what a pulse leaves in its 0.1 s
    bench.bias(**{name: biases[name] for name in BIASES})
    found: dict[int, tuple[float, float]] = {}
    delays: dict[tuple[int, float], NDArray[np.float64]] = {}
    for current in (i_syn, i_syn / 4):
        expected = max(float(law.first_spike(current, biases)) for law in laws.values()) + 20e-6
        port.rest()
        response = port.pulses(current, expected, period, repeats, stamps=True)
        for k, law in laws.items():
            times = response.times(k)
            number = np.floor(times / period).astype(int)
            first = np.unique(number, return_index=True)[1]
            delays[k, current] = times[first] - number[first] * period - float(law.first_spike(current, biases))
    for k, law in laws.items():
        fast, slow = delays[k, i_syn], delays[k, i_syn / 4]
        charge = float(law.first_spike(i_syn / 4, biases)) - law.t_lat
        if len(fast) < 3 or len(slow) < 3:
            found[k] = NAN, NAN
        else:
            found[k] = float(np.mean(fast)), float(np.std(slow, ddof=1)) / charge
    return found


def check(bench: Bench, laws: Mapping[int, NeuronLaw], rate: float, i_syn: float) -> Iterator[Check]:
    """The requested rate with a typical neuron's threshold, with each neuron's own, and with its own current."""
    biases = {name: bench.station.biases[name] for name in (*BIASES, "v_gain", "v_dd")}
    usual = typical().v_thr_for_rate(rate, i_syn, biases)
    wanted: dict[int, tuple[float, float]] = {}
    for k, law in laws.items():
        try:
            wanted[k] = law.v_thr_for_rate(rate, i_syn, biases), law.i_syn_for_rate(rate, {**biases, "v_thr": usual})
        except ParameterError:
            continue  # this neuron cannot do what is asked; its law says what it can
    if not wanted:
        return
    bench.bias(**{name: biases[name] for name in BIASES if name != "v_thr"}, v_thr=usual)
    gate, settle = max(0.1, 100 / rate), 5 / rate
    bench.inputs(dict.fromkeys(wanted, i_syn))
    before = bench.count(list(wanted), gate, settle=settle)
    bench.inputs({k: current for k, (_, current) in wanted.items()})
    trimmed = bench.count(list(wanted), gate, settle=settle)
    bench.inputs(dict.fromkeys(wanted, i_syn))
    for k, (v_thr, current) in wanted.items():
        bench.bias(v_thr=v_thr)
        after = bench.count([k], gate, settle=settle)
        yield Check(k, before.rate(k), v_thr, after.rate(k), current, trimmed.rate(k))
