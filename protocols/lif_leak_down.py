"""Leak of the membrane from threshold down to rest: Garg et al., Fig. 6D."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.analysis.neurons import typical
from labctl.analysis.waveforms import fit_leak, settling_time, smooth
from labctl.errors import MeasurementError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q, inclusive, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = 20e-3
"""How near to V_rest (V) counts as there; the paper does not say, the scope's noise and steps ask for about this."""


class Point(NamedTuple):
    """One leak bias."""

    v_taun: A[float, Q("V", meaning="downward leak bias")]
    settling: A[float, Q("s", meaning="from V_thr to V_rest + 20 mV; NaN: not within the record")]
    slope: A[float, Q("V/s", meaning="saturated leak slope, fitted")]
    v_end: A[float, Q("V", meaning="membrane at the end of the record")]
    span: A[float, Q("s", meaning="length of the record")]


def plot(run: Run, figure: "Figure") -> None:
    """The falls, and their time against the bias."""
    table, (axes, times) = run.table(), figure.subplots(1, 2, width_ratios=(3, 2))
    for k, v_taun in enumerate(table["v_taun"]):
        trace = run.trace("mem", k)
        axes.plot(np.maximum(trace.t, 1e-5), trace.values, linewidth=0.6, label=f"{v_taun:g} V")
    axes.set(
        xscale="log",
        xlim=(1e-3, 2.0),
        xlabel="time (s)",
        ylabel="V$_{mem}$ (V)",
        title="after one pulse to below threshold",
    )
    axes.legend(title="V$_{taun}$", fontsize=7)
    axes.grid(True, which="both", alpha=0.3)
    times.semilogy(table["v_taun"], table["settling"], "o-")
    times.set(xlabel="V$_{taun}$ (V)", ylabel="threshold → rest (s)", title="time to rest")
    times.grid(True, which="both", alpha=0.3)


@protocol(total=lambda v_taun, **_: len(v_taun), plot=plot)
def lif_leak_down(
    bench: Bench,
    v_taun: A[Sequence[float], Q("V", 0, 3.3, "leak biases: the paper's range")] = tuple(inclusive(1.0, 1.35, 0.05)),
    i_syn: A[float, Q("A", 100e-9, 200e-6, "current of the pulse")] = 10e-6,
    fraction: A[float, Q("", 0.1, 0.98, "pulse width, as part of the time to the first spike")] = 0.9,
    longest: A[float, Q("s", 1e-3, 50, "longest record: 2 s in the paper")] = 2.0,
    neuron: A[int, Q("", 0, 31, "input neuron; MEM needs a scope probe")] = 0,
) -> Iterator[Point | Trace]:
    """One pulse lifts the membrane to just below the firing level; the scope watches it fall to V_rest.

    How long a pulse may be is found by the time that the same current takes to make the neuron fire.
    """
    port, law = NeuronPort(bench, neuron), typical()
    with bench.powered(v_taun=1.0):
        v_thr, v_rest = bench.volts("VTHR"), bench.volts("VREST")
        port.rest()
        fired = port.pulses(i_syn, 20e-3, 25e-3, stamps=True).times(neuron)
        if not len(fired):
            raise MeasurementError(f"neuron {neuron} does not fire within 20 ms of {si(i_syn, 'A')}; raise i_syn")
        width = fraction * float(fired[0])
        for bias in v_taun:
            span = min(longest, 2 * (v_thr - v_rest) / float(law.l_n(bias)) + 2 * width)
            while True:
                bench.bias(v_taun=bias)
                port.rest()
                port.look(View(f"MEM{neuron}", 2.0, v_rest + 0.4), span=span, shortest=(span / 100, "the fall"))
                if port.pulses(i_syn, width, width + 10e-6, trigger=True, tail=span * 1.01).counts[neuron]:
                    raise MeasurementError(f"neuron {neuron} fired at fraction {fraction:g} of its latency; lower it")
                [trace] = port.seen()
                t, v = trace.t, smooth(trace.values, 15)
                settling = settling_time(t, v, v_thr, v_rest + BAND)
                if np.isfinite(settling) or span >= longest:
                    break
                span = min(longest, 3 * span)
            falling = t > width
            yield Point(bias, settling, fit_leak(t[falling], trace.values[falling], v_rest).slope, float(v[-1]), span)
            yield trace
