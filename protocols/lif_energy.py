"""Supply power: static, reading, and the energy of a spike, at both comparator biases: Garg et al., Sec. III-E."""

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
    """One operating point of the whole chip."""

    v_bcomp: A[float, Q("V", meaning="comparator bias")]
    i_syn: A[float, Q("A", meaning="current into the driven neuron; 0: none is driven")]
    v_pw: A[float, Q("V", meaning="pulse-width bias")]
    rate: A[float, Q("Hz", meaning="spikes per second of the driven neuron")]
    power: A[float, Q("W", meaning="V_dd times the supply's current, the whole chip")]


class Estimate(NamedTuple):
    """What follows for one neuron with its LDO and attenuator, from a straight line through the points."""

    v_bcomp: A[float, Q("V", meaning="comparator bias")]
    static: A[float, Q("W", meaning="idle power of the chip, divided by its neurons, inputs and outputs")]
    reading: A[float, Q("W", meaning="more while a neuron is driven, at no spikes")]
    spike: A[float, Q("J", meaning="energy of a spike: slope of the power over the rate")]
    residual: A[float, Q("W", meaning="rms distance of the points from the line")]


def plot(run: Run, figure: "Figure") -> None:
    """Power over the idle chip against the rate, a line a comparator bias."""
    table, lines, axes = run.table(), run.table("estimate"), figure.subplots()
    for k, v_bcomp in enumerate(lines["v_bcomp"]):
        at = (table["v_bcomp"] == v_bcomp) & (table["i_syn"] > 0)
        idle = table["power"][(table["v_bcomp"] == v_bcomp) & (table["i_syn"] == 0)].mean()
        rate, colour = table["rate"][at], f"C{k}"
        axes.plot(rate / 1e3, (table["power"][at] - idle) * 1e6, "o", color=colour)
        energy, static = lines["spike"][k] * 1e9, lines["static"][k] * 1e6
        text = f"V$_{{bcomp}}$ {v_bcomp:g} V: {energy:.3g} nJ/spike, idle {static:.4g} µW a neuron"
        axes.plot(rate / 1e3, (lines["reading"][k] + lines["spike"][k] * rate) * 1e6, color=colour, label=text)
    axes.set(xlabel="firing rate (kHz)", ylabel="power above the idle chip (µW)", title="energy of a spike")
    axes.grid(True, alpha=0.3)
    axes.legend()


@protocol(plot=plot)
def lif_energy(
    bench: Bench,
    v_bcomp: A[Sequence[float], Q("V", 0, 3.3, "comparator biases: the typical one and a low one")] = (2.4, 1.0),
    v_pw: A[Sequence[float], Q("V", 0.4, 1.5, "pulse-width biases: they set the rates")] = (0.7, 0.8, 0.9, 1.0, 1.1),
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current into the driven neuron")] = 200e-6,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference")] = 1.0,
    neuron: A[int, Q("", 0, 31, "the neuron that is driven")] = 0,
    duration: A[float, Q("s", 1e-3, 100, "time over which power and rate are averaged")] = 0.1,
) -> Iterator[Point | Estimate]:
    """Supply power of the idle chip and with one neuron driven at several rates.

    The board's supply monitor sees the whole chip; a straight line separates what is static, what reading costs and
    what a spike costs. LDO, attenuator and neuron cannot be told apart from outside: the paper's SPICE figures for
    them are compared as sums. The paper gives no value for the low comparator bias; 1.0 V is chosen.
    """
    port = NeuronPort(bench, neuron)
    neurons = bench.station.chip.neurons + bench.station.chip.columns
    with bench.powered(v_ref=v_ref):
        v_dd = bench.volts("VDD")
        for bias in v_bcomp:
            bench.bias(v_bcomp=bias)
            bench.inject(neuron, 0.0)
            bench.wait(0.05)
            idle = v_dd * port.supply(duration)
            yield Point(bias, 0.0, bench.volts("VPW"), 0.0, idle)
            rates, powers = [], []
            for width in v_pw:
                bench.bias(v_pw=width)
                bench.inject(neuron, i_syn)
                spikes = bench.count([neuron], duration, settle=1e-3)
                rates.append(spikes.rate(neuron))
                powers.append(v_dd * port.supply(duration))
                yield Point(bias, i_syn, width, rates[-1], powers[-1])
            slope, intercept = np.polyfit(rates, powers, 1)
            rest = np.asarray(powers) - (intercept + slope * np.asarray(rates))
            yield Estimate(
                bias, idle / neurons, float(intercept) - idle, float(slope), float(np.sqrt(np.mean(rest**2)))
            )
