"""Integration of read pulses: Garg et al., Fig. 6A (10 µs), 6B (7, 15 µs) and 6C (leak)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.neuron import NeuronPort
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One pulse train."""

    width: A[float, Q("s", meaning="width of each read pulse")]
    v_taun: A[float, Q("V", meaning="downward leak bias")]
    rate: A[float, Q("Hz", meaning="output spikes per second")]
    spikes: A[int, Q("", meaning="output spikes of the train")]
    pulses: A[int, Q("", meaning="input pulses of the train")]
    pulses_a_spike: A[float, Q("", meaning="input pulses from one spike to the next, median; NaN below two spikes")]


def plot(run: Run, figure: "Figure") -> None:
    """Output rate against pulse width, and against the leak bias."""
    table = run.table()
    widths, biases = np.unique(table["width"]), np.unique(table["v_taun"])
    shown = [("width", 1e6, "pulse width (µs)", "v_taun", "V$_{{taun}}$ = {:g} V", 1.0)] if len(widths) > 1 else []
    if len(biases) > 1 or not shown:
        shown.append(("v_taun", 1.0, "V$_{taun}$ (V)", "width", "{:g} µs", 1e6))
    for axes, (x, scale, label, by, text, unit) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
    ):
        for value in np.unique(table[by]):
            at = table[by] == value
            order = np.argsort(table[x][at])
            axes.plot(table[x][at][order] * scale, table["rate"][at][order], "o-", label=text.format(value * unit))
        axes.set(xlabel=label, ylabel="output rate (Hz)", title=f"read pulses at {1 / run.params['period']:g} Hz")
        axes.grid(True, alpha=0.3)
        axes.legend()


@protocol(total=lambda width, v_taun, **_: len(width) * len(v_taun), plot=plot)
def lif_pulse_response(
    bench: Bench,
    width: A[Sequence[float], Q("s", 1e-6, 1, "widths of the read pulses")] = (5e-6, 7e-6, 10e-6, 15e-6),
    v_taun: A[Sequence[float], Q("V", 0, 3.3, "downward leak biases; open in Fig. 6C but for the typical")] = (1.2,),
    i_syn: A[float, Q("A", 0, 200e-6, "current during a pulse: 400 mV across 10 kΩ")] = 40e-6,
    period: A[float, Q("s", 10e-6, 10, "pulse period")] = 10e-3,
    v_thr: A[float, Q("V", 0, 3.3, "threshold")] = 1.2,
    neuron: A[int, Q("", 0, 31, "input neuron")] = 0,
    duration: A[float, Q("s", 1e-3, 1000, "length of each train")] = 1.0,
) -> Iterator[Point]:
    """Output rate of one neuron that integrates short current pulses, started at rest.

    Fig. 6C: width 10 µs with v_taun 1.0, 1.2, 1.246: 12, 8, 2 Hz; the paper gives 1.2 V only, the others are chosen.
    """
    port = NeuronPort(bench, neuron)
    pulses = max(1, round(duration / period))
    with bench.powered(v_thr=v_thr):
        for bias in v_taun:
            for seconds in width:
                bench.bias(v_taun=bias)
                port.rest()
                response = port.pulses(i_syn, seconds, period, pulses, stamps=True)
                isi, count = response.isi(neuron), response.counts[neuron]
                a_spike = float(np.median(np.rint(isi / period))) if len(isi) else float("nan")
                yield Point(seconds, bias, count / response.duration, count, pulses, a_spike)
