"""Saturation of the firing rate by the output pulse width: Garg et al., Fig. 4D."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One current at one pulse-width bias."""

    i_syn: A[float, Q("A", meaning="synaptic current, DC")]
    v_pw: A[float, Q("V", meaning="pulse-width bias")]
    rate: A[float, Q("Hz", meaning="spikes per second within the gate")]
    spikes: A[int, Q("", meaning="spikes counted within the gate")]


def plot(run: Run, figure: "Figure") -> None:
    """Rate against current, a line a pulse-width bias."""
    table, axes = run.table(), figure.subplots()
    for v_pw in np.unique(table["v_pw"]):
        at = table["v_pw"] == v_pw
        axes.plot(table["i_syn"][at] * 1e6, table["rate"][at] / 1e3, "o-", label=f"V$_{{pw}}$ = {v_pw:g} V")
    axes.set(xlabel="I$_{syn}$ (µA)", ylabel="firing rate (kHz)", title="Saturation by the output pulse width")
    axes.grid(True, alpha=0.3)
    axes.legend()


@protocol(total=lambda i_syn, v_pw, **_: len(i_syn) * len(v_pw), plot=plot)
def lif_rate_vs_vpw(
    bench: Bench,
    i_syn: A[Sequence[float], Q("A", 0, 200e-6, "synaptic current, DC")] = (
        10e-6,
        20e-6,
        30e-6,
        40e-6,
        60e-6,
        80e-6,
        100e-6,
        130e-6,
        160e-6,
        200e-6,
    ),
    v_pw: A[Sequence[float], Q("V", 0.3, 1.5, "sets the output pulse width")] = (0.8, 0.9, 1.0, 1.1),
    v_thr: A[float, Q("V", 0, 3.3, "threshold; open in the paper, the lower one of its Fig. 4A is chosen")] = 0.8,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference; at the typical 2.4 V only 90 µA fit below V_dd")] = 1.0,
    neuron: A[int, Q("", 0, 31, "input neuron")] = 0,
    duration: A[float, Q("s", 10e-6, 100, "gate of the spike counter")] = 0.05,
    settle: A[float, Q("s", 0, 10, "time at each current before the gate opens")] = 2e-3,
) -> Iterator[Point]:
    """Firing rate against DC current for several V_pw: the rate cannot exceed 1/(T_pw + latency)."""  # fmt: skip
    with bench.powered(v_ref=v_ref, v_thr=v_thr):
        for width in v_pw:
            bench.bias(v_pw=width)
            for current in i_syn:
                bench.inject(neuron, current)
                spikes = bench.count([neuron], duration, settle=settle)
                yield Point(current, width, spikes.rate(neuron), spikes.counts[neuron])
