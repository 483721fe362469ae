"""An adaptive neuron made of two: Garg et al., Fig. 7B."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.analysis.waveforms import smooth
from labctl.errors import MeasurementError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Spike(NamedTuple):
    """One spike of the primary."""

    t: A[float, Q("s", meaning="when, after the first pulse")]
    isi: A[float, Q("s", meaning="since the spike before; NaN for the first")]
    threshold: A[float, Q("V", meaning="membrane of the regulator just before the spike, by the scope")]


def plot(run: Run, figure: "Figure") -> None:
    """The regulator's membrane, which is the primary's threshold, above the primary's inter-spike intervals."""
    table, trace = run.table(), run.trace("mem", 0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(trace.t * 1e3, trace.values, linewidth=0.8)
    upper.plot(table["t"] * 1e3, table["threshold"], "k.", markersize=4)
    upper.set(ylabel="MEM$_{reg}$ = THR (V)", title="adaptation: the regulator integrates the primary's spikes")
    lower.plot(table["t"] * 1e3, table["isi"] * 1e3, "o-", color="tab:red", markersize=4)
    lower.set(xlabel="time (ms)", ylabel="inter-spike interval (ms)")
    for axes in (upper, lower):
        axes.grid(True, alpha=0.3)


@protocol(plot=plot)
def lif_adaptive(
    bench: Bench,
    primary: A[int, Q("", 0, 31, "neuron that gets the pulses")] = 1,
    regulator: A[int, Q("", 0, 31, "neuron that integrates its spikes; MEM needs a scope probe")] = 0,
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current of the pulses; open in the paper")] = 18e-6,
    width: A[float, Q("s", 5e-6, 1e-3, "width of the pulses; open, 0.47 V each")] = 160e-6,
    period: A[float, Q("s", 50e-6, 1, "pulse period: 1 kHz")] = 1e-3,
    pulses: A[int, Q("", 10, 100_000, "pulses applied")] = 800,
    v_thr: A[float, Q("V", 0, 3.3, "threshold of the regulator; above the 2 V that its membrane reaches")] = 2.6,
    v_pw: A[
        float, Q("V", 0.3, 1.5, "output pulse width: what one spike adds to the threshold; open in the paper")
    ] = 1.0,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference; open: 18 µA a spike, 20 mV of threshold")] = 3.12,
) -> Iterator[Spike | Trace]:
    """Inter-spike intervals of a neuron whose threshold rises with each of its spikes, from V_rest on.

    Two switches on the board: OUT of the primary drives IN of the regulator, MEM of the regulator is the threshold of
    the primary. The membrane of the regulator starts at V_rest and leaks back to it.
    """
    port, both = NeuronPort(bench, primary), NeuronPort(bench, primary, regulator)
    with bench.powered(v_thr=v_thr, v_pw=v_pw, v_ref=v_ref):
        v_rest = bench.volts("VREST")
        both.rest()
        with port.regulated_by(regulator):
            span = pulses * period
            port.look(View(f"MEM{regulator}", 3.2, 1.2), span=span, shortest=(period / 4, "the time between pulses"))
            response = port.pulses(i_syn, width, period, pulses, stamps=True, trigger=True, tail=period)
            [trace] = port.seen()
        times = response.times(primary)
        if not len(times):
            raise MeasurementError(f"neuron {primary} does not fire from V_rest {v_rest:g} V on; make the pulses wider")
        level = smooth(trace.values, 5)
        for k, t in enumerate(times):
            at = int(np.searchsorted(trace.t, t - 0.1 * period)) - 1
            isi = float(t - times[k - 1]) if k else float("nan")
            yield Spike(float(t), isi, float(level[max(at, 0)]))
        yield trace
