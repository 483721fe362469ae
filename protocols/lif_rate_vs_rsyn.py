"""Firing rate against the synaptic resistance: Garg et al., Fig. 3A."""

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
    """One read voltage across one neuron's resistance."""

    v_read: A[float, Q("V", meaning="V_in − V_ref, the voltage across the synaptic resistance")]
    r_syn: A[float, Q("Ω", meaning="resistance in front of the neuron, by the station file")]
    rate: A[float, Q("Hz", meaning="spikes per second within the gate")]
    spikes: A[int, Q("", meaning="spikes counted within the gate")]
    neuron: A[int, Q("", meaning="input neuron")]


def plot(run: Run, figure: "Figure") -> None:
    """Rate against resistance, a line a read voltage, both axes logarithmic."""
    table, axes = run.table(), figure.subplots()
    for v_read in np.unique(table["v_read"])[::-1]:
        at = (table["v_read"] == v_read) & (table["spikes"] > 0)
        order = np.argsort(table["r_syn"][at])
        r_syn, rate = table["r_syn"][at][order], table["rate"][at][order]
        axes.loglog(r_syn / 1e3, rate, "o-", markersize=4, label=f"{v_read * 1e3:.0f} mV")
    axes.set(xlabel="R$_{syn}$ (kΩ)", ylabel="firing rate (Hz)", title="Firing rate against synaptic resistance")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(title="V$_{read}$")


@protocol(total=lambda v_read, neuron, **_: len(v_read) * len(neuron), plot=plot)
def lif_rate_vs_rsyn(
    bench: Bench,
    v_read: A[Sequence[float], Q("V", 0, 3.3, "voltages across the resistance")] = (0.1, 0.175, 0.25, 0.325, 0.4),
    neuron: A[Sequence[int], Q("", 0, 31, "input neurons, each with its own resistance")] = tuple(range(16)),
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference; 1 V in the paper's Fig. 3")] = 1.0,
    v_thr: A[float, Q("V", 0, 3.3, "threshold; open in the paper, 1.0 V gives its 8 Hz at 1 MΩ, 100 mV")] = 1.0,
    v_taun: A[float, Q("V", 0, 3.3, "downward leak; open in the paper, at 1.0 V 0.1 µA still fires")] = 1.0,
    duration: A[float, Q("s", 1e-3, 100, "gate of the spike counter")] = 1.0,
) -> Iterator[Point]:
    """Firing rate of neurons with different synaptic resistances, for several read voltages; all neurons at once.

    On a bench with one resistance (station sim) the neurons are alike; station sim-rsyn has 10 kΩ … 1 MΩ.
    The paper does not state V_thr, V_pw and V_taun of this figure. No choice gives both of its ends, 8 Hz and 25 kHz,
    together with its Figs. 4 and 6; the defaults give the lower end.
    """
    port = NeuronPort(bench, *neuron)
    with bench.powered(v_ref=v_ref, v_thr=v_thr, v_taun=v_taun):
        for volts in v_read:
            bench.inputs({k: volts / bench.r_syn(k) for k in neuron})
            spikes = bench.count(neuron, duration)
            for k in neuron:
                yield Point(volts, bench.r_syn(k), spikes.rate(k), spikes.counts[k], k)
            port.rest()
