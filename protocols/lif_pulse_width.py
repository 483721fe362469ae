"""Output pulse width against V_pw, on the oscilloscope: Garg et al., Fig. 4E."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.analysis.neurons import typical
from labctl.analysis.waveforms import pulse_widths
from labctl.errors import MeasurementError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q, inclusive, si
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One pulse-width bias."""

    v_pw: A[float, Q("V", meaning="pulse-width bias")]
    width: A[float, Q("s", meaning="width of the output pulse at V_dd/2")]
    resolution: A[float, Q("s", meaning="time between samples of the record it was read from")]


def plot(run: Run, figure: "Figure") -> None:
    """Width against bias, logarithmic; and the pulses themselves."""
    table, (axes, pulses) = run.table(), figure.subplots(1, 2)
    axes.semilogy(table["v_pw"], table["width"] * 1e3, "o-")
    axes.set(xlabel="V$_{pw}$ (V)", ylabel="pulse width at V$_{dd}$/2 (ms)", title="Output pulse width")
    axes.grid(True, which="both", alpha=0.3)
    for k, v_pw in enumerate(table["v_pw"]):
        trace = run.trace("out", k)
        on = trace.t > 0
        pulses.semilogx(trace.t[on] * 1e3, trace.values[on], linewidth=0.7, label=f"{v_pw:g} V")
    pulses.set(xlim=(1e-3, None), xlabel="time (ms)", ylabel="OUT (V)", title="by V$_{pw}$")
    pulses.legend(fontsize=7, ncols=2)


@protocol(total=lambda v_pw, **_: len(v_pw), plot=plot)
def lif_pulse_width(
    bench: Bench,
    v_pw: A[Sequence[float], Q("V", 0.4, 1.5, "pulse-width biases")] = tuple(inclusive(0.45, 1.0, 0.05)),
    i_syn: A[float, Q("A", 1e-6, 200e-6, "synaptic current that makes the neuron fire")] = 100e-6,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference")] = 1.0,
    neuron: A[int, Q("", 0, 31, "input neuron; OUT needs a scope probe")] = 0,
) -> Iterator[Point | Trace]:
    """Width of the output pulse at V_dd/2, one record a bias, triggered by the pulse itself.

    The first record of each bias is as long as a typical neuron needs; it is made longer while no pulse ends in it, and
    shorter while the pulse has less than 40 samples.
    """
    port, law, out = NeuronPort(bench, neuron), typical(), f"OUT{neuron}"
    with bench.powered(v_ref=v_ref):
        v_dd = bench.volts("VDD")
        for bias in v_pw:
            bench.bias(v_pw=bias)
            expected = float(law.pulse_width(bias))
            for _ in range(5):
                port.rest(4 * expected)
                port.look(
                    View(out, v_dd * 1.3, v_dd / 2), span=2 * expected, shortest=(expected, "an output pulse"),
                    before=0.2 * expected, trigger=(out, v_dd / 2),
                )  # fmt: skip
                port.inject(i_syn)
                bench.wait(2 * expected + 10e-3)
                [trace] = port.seen()
                widths = pulse_widths(trace.t, trace.values, v_dd / 2, hysteresis=v_dd / 4)
                if not len(widths):
                    expected *= 4
                elif widths[0] < 40 * trace.dt:
                    expected = float(widths[0])
                else:
                    break
            else:
                raise MeasurementError(f"OUT{neuron} shows no whole pulse at V_pw {si(bias, 'V')}; is it stuck high?")
            yield Point(bias, float(widths[0]), trace.dt)
            yield trace
