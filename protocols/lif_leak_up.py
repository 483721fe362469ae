"""Leak of the membrane from reset up to rest: Garg et al., Fig. 6E."""

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
"""How near to V_rest (V) counts as there, as in `lif_leak_down`."""


class Point(NamedTuple):
    """One leak bias."""

    v_taup: A[float, Q("V", meaning="upward leak bias")]
    settling: A[float, Q("s", meaning="from 50 mV to V_rest − 20 mV; NaN: not within the record")]
    slope: A[float, Q("V/s", meaning="saturated leak slope, fitted")]
    v_end: A[float, Q("V", meaning="membrane at the end of the record")]
    span: A[float, Q("s", meaning="length of the record")]


def plot(run: Run, figure: "Figure") -> None:
    """The rises, and their slope against the bias."""
    table, (axes, slopes) = run.table(), figure.subplots(1, 2, width_ratios=(3, 2))
    for k, v_taup in enumerate(table["v_taup"]):
        trace = run.trace("mem", k)
        axes.plot(np.maximum(trace.t, 1e-5), trace.values, linewidth=0.6, label=f"{v_taup:g} V")
    axes.set(
        xscale="log", xlim=(1e-4, 2.0), xlabel="time (s)", ylabel="V$_{mem}$ (V)", title="after one pulse that fires"
    )
    axes.legend(title="V$_{taup}$", fontsize=7)
    axes.grid(True, which="both", alpha=0.3)
    slopes.semilogy(table["v_taup"], table["slope"], "o-")
    slopes.set(xlabel="V$_{taup}$ (V)", ylabel="leak slope (V/s)", title="upward leak")
    slopes.grid(True, which="both", alpha=0.3)


@protocol(total=lambda v_taup, **_: len(v_taup), plot=plot)
def lif_leak_up(
    bench: Bench,
    v_taup: A[Sequence[float], Q("V", 0, 3.3, "leak biases: the paper's range")] = tuple(inclusive(1.1, 1.6, 0.1)),
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current of the pulse that fires")] = 40e-6,
    longest: A[float, Q("s", 1e-3, 50, "longest record: 2 s in the paper")] = 2.0,
    neuron: A[int, Q("", 0, 31, "input neuron; MEM needs a scope probe")] = 0,
) -> Iterator[Point | Trace]:
    """One pulse makes the neuron fire once; the scope watches the membrane rise from 0 V to V_rest.

    The pulse ends while the output pulse holds the membrane at 0: its length is the time to the first spike and half
    an output pulse. The paper states neither sign nor size of what V_taup does.
    """
    port, law = NeuronPort(bench, neuron), typical()
    with bench.powered():
        v_rest = bench.volts("VREST")
        hold = float(law.pulse_width(bench.volts("VPW")))
        port.rest()
        fired = port.pulses(i_syn, 5e-3, 10e-3, stamps=True).times(neuron)
        if not len(fired):
            raise MeasurementError(f"neuron {neuron} does not fire within 5 ms of {si(i_syn, 'A')}; raise i_syn")
        width = float(fired[0]) + hold / 2
        for bias in v_taup:
            span = min(longest, 3 * v_rest / float(law.l_p(bias)) + 2 * width)
            while True:
                bench.bias(v_taup=bench.station.biases["v_taup"])
                port.rest()
                bench.bias(v_taup=bias)
                port.look(View(f"MEM{neuron}", 2.4, 0.8), span=span, shortest=(span / 100, "the rise"))
                count = port.pulses(i_syn, width, width + 10e-6, trigger=True, tail=span * 1.01).counts[neuron]
                if count != 1:
                    raise MeasurementError(f"neuron {neuron} fired {count} times in one pulse of {si(width, 's')}")
                [trace] = port.seen()
                after = trace.t > width + hold
                t, v = trace.t[after], smooth(trace.values[after], 15)
                reached = np.flatnonzero(v > 50e-3)
                settling = settling_time(t, v, 50e-3, v_rest - BAND) if len(reached) and v[0] < 50e-3 else float("nan")
                if np.isfinite(settling) or span >= longest:
                    break
                span = min(longest, 3 * span)
            yield Point(bias, settling, fit_leak(t, trace.values[after], v_rest).slope, float(v[-1]), span)
            yield trace
