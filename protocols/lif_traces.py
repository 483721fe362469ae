"""Membrane and output of a neuron on the oscilloscope: Garg et al., Fig. 3B/C and 4B/C."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.analysis.neurons import typical
from labctl.analysis.waveforms import crossings, pulse_widths
from labctl.errors import MeasurementError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One operating point."""

    i_syn: A[float, Q("A", meaning="synaptic current, DC")]
    v_thr: A[float, Q("V", meaning="threshold")]
    rate: A[float, Q("Hz", meaning="spikes per second by the counter")]
    interval: A[float, Q("s", meaning="mean interval of OUT's rising edges on the scope; NaN below two")]
    width: A[float, Q("s", meaning="mean width of OUT at V_dd/2 on the scope; NaN below one")]
    v_peak: A[float, Q("V", meaning="highest membrane voltage on the scope")]
    v_low: A[float, Q("V", meaning="lowest membrane voltage on the scope")]


def plot(run: Run, figure: "Figure") -> None:
    """Membrane above output, a column a point."""
    table = run.table()
    count = len(table["i_syn"])
    axes = figure.subplots(2, count, sharex="col", squeeze=False)
    for k in range(count):
        for row, (name, colour) in enumerate((("mem", "tab:blue"), ("out", "tab:red"))):
            trace = run.trace(name, k)
            axes[row, k].plot(trace.t * 1e3, trace.values, color=colour, linewidth=0.7)
            axes[row, k].grid(True, alpha=0.3)
        axes[0, k].set_title(
            f"{table['i_syn'][k] * 1e6:g} µA, V$_{{thr}}$ {table['v_thr'][k]:g} V\n{si(table['rate'][k], 'Hz', 4)}",
            fontsize=9,
        )
        axes[1, k].set_xlabel("time (ms)")
    axes[0, 0].set_ylabel("V$_{mem}$ (V)")
    axes[1, 0].set_ylabel("OUT (V)")


@protocol(total=lambda i_syn, v_thr, **_: len(i_syn) * len(v_thr), plot=plot)
def lif_traces(
    bench: Bench,
    i_syn: A[Sequence[float], Q("A", 50e-9, 200e-6, "DC; the default is 250 mV across 10 and 50 kΩ (Fig. 3B/C)")] = (
        25e-6,
        5e-6,
    ),
    v_thr: A[Sequence[float], Q("V", 0.1, 3.3, "thresholds")] = (1.2,),
    v_pw: A[float, Q("V", 0.3, 1.5, "sets the output pulse width")] = 1.0,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference")] = 1.0,
    neuron: A[int, Q("", 0, 31, "input neuron; MEM and OUT need scope probes")] = 0,
    periods: A[float, Q("", 1, 100, "spikes on a screen, as far as expected")] = 5.0,
) -> Iterator[Point | Trace]:
    """Traces of V_mem and OUT under DC current, a few spikes of each operating point.

    Fig. 4B/C: ``--i-syn 10u,200u --v-thr 0.8,1.8``.
    """
    port, law = NeuronPort(bench, neuron), typical()
    mem, out = f"MEM{neuron}", f"OUT{neuron}"
    with bench.powered(v_pw=v_pw, v_ref=v_ref):
        v_dd, v_gain, biases = bench.volts("VDD"), bench.volts("VGAIN"), bench.station.biases
        for threshold in v_thr:
            bench.bias(v_thr=threshold)
            for current in i_syn:
                expected = float(law.period(law.slew_at(current), {**biases, "v_pw": v_pw, "v_thr": threshold}))
                if not np.isfinite(expected):
                    raise MeasurementError(f"at {si(current, 'A')} a typical neuron leaks as fast; lower v_taun")
                span = periods * expected
                port.inject(current)
                bench.wait(2 * expected)
                port.look(
                    View(mem, v_gain + 0.8, v_gain / 2 + 0.1), View(out, v_dd * 1.3, v_dd / 2),
                    span=span, shortest=(float(law.pulse_width(v_pw)), "an output pulse"),
                )  # fmt: skip
                spikes = bench.count([neuron], span * 1.01, trigger=True)
                membrane, output = port.seen()
                edges = crossings(output.t, output.values, v_dd / 2, hysteresis=v_dd / 4)
                widths = pulse_widths(output.t, output.values, v_dd / 2, hysteresis=v_dd / 4)
                yield Point(
                    current, threshold, spikes.rate(neuron),
                    float((edges[-1] - edges[0]) / (len(edges) - 1)) if len(edges) > 1 else float("nan"),
                    float(widths.mean()) if len(widths) else float("nan"),
                    float(membrane.values.max()), float(membrane.values.min()),
                )  # fmt: skip
                yield membrane
                yield output
