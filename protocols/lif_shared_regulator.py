"""Some adaptive neurons with one regulator among plain ones: Garg et al., Fig. 7C."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.neuron import NeuronPort, View
from labctl.errors import UsageError
from labctl.protocol import Trace, protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Spike(NamedTuple):
    """One spike."""

    t: A[float, Q("s", meaning="when, after the first pulse")]
    neuron: A[int, Q("", meaning="which neuron fired")]
    adaptive: A[bool, Q("", meaning="whether it shares the regulator")]


class Neuron(NamedTuple):
    """One neuron over the whole train."""

    neuron: A[int, Q("", meaning="input neuron")]
    adaptive: A[bool, Q("", meaning="whether it shares the regulator")]
    spikes: A[int, Q("", meaning="spikes counted")]
    isi_first: A[float, Q("s", meaning="first inter-spike interval; NaN below two spikes")]
    isi_last: A[float, Q("s", meaning="last inter-spike interval; NaN below two spikes")]


def plot(run: Run, figure: "Figure") -> None:
    """Who fired when, above the regulator's membrane."""
    table, trace = run.table("spike"), run.trace("mem", 0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for adaptive, colour, label in ((False, "tab:blue", "LIF"), (True, "tab:red", "adaptive, shared regulator")):
        at = table["adaptive"] == adaptive
        upper.plot(table["t"][at] * 1e3, table["neuron"][at], "|", color=colour, markersize=12, label=label)
    upper.set_title("one regulator shared by a sub-population", loc="left")
    upper.set_ylabel("neuron")
    upper.yaxis.get_major_locator().set_params(integer=True)
    upper.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8)
    lower.plot(trace.t * 1e3, trace.values, linewidth=0.8)
    lower.set(xlabel="time (ms)", ylabel="MEM$_{reg}$ (V)")
    lower.grid(True, alpha=0.3)


@protocol(plot=plot)
def lif_shared_regulator(
    bench: Bench,
    adaptive: A[Sequence[int], Q("", 0, 31, "neurons that share the regulator")] = (1, 2, 3, 4),
    plain: A[Sequence[int], Q("", 0, 31, "neurons that stay LIF, with a constant threshold")] = (5, 6, 7, 8),
    idle: A[int, Q("", 0, 31, "a neuron left at V_rest: its membrane is the threshold of the plain ones")] = 15,
    regulator: A[int, Q("", 0, 31, "the regulator; MEM needs a scope probe")] = 0,
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current of the pulses, to all neurons at once")] = 18e-6,
    width: A[float, Q("s", 5e-6, 1e-3, "width of the pulses: about 0.47 V each")] = 160e-6,
    period: A[float, Q("s", 50e-6, 1, "pulse period: 1 kHz")] = 1e-3,
    pulses: A[int, Q("", 10, 100_000, "pulses applied")] = 300,
    v_thr: A[float, Q("V", 0, 3.3, "threshold of the regulator and the idle one, out of their reach")] = 2.6,
    v_pw: A[float, Q("V", 0.3, 1.5, "output pulse width: what a spike adds to the threshold")] = 1.0,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference: what a spike drives through R_syn")] = 3.12,
) -> Iterator[Spike | Neuron | Trace]:
    """The same pulses to a population of which some share one regulator: their threshold is its membrane.

    Which neuron adapts is a matter of the board's switches, so a population can be recomposed between two runs. The
    chip has one V_thr, and the regulator needs it out of its reach; so the plain neurons take their threshold from the
    membrane of an idle neuron, which stays at V_rest: where the regulator starts too.
    """
    everyone = sorted({*adaptive, *plain})
    if len({*everyone, regulator, idle}) < len(adaptive) + len(plain) + 2:
        raise UsageError("a neuron is either adaptive, plain, idle or the regulator; name each once")
    port, shared, others = NeuronPort(bench, *everyone), NeuronPort(bench, *adaptive), NeuronPort(bench, *plain)
    with bench.powered(v_thr=v_thr, v_pw=v_pw, v_ref=v_ref):
        NeuronPort(bench, *everyone, regulator, idle).rest()
        with shared.regulated_by(regulator), others.threshold_from(idle):
            span = pulses * period
            port.look(View(f"MEM{regulator}", 3.2, 1.2), span=span, shortest=(period / 4, "the time between pulses"))
            response = port.pulses(i_syn, width, period, pulses, stamps=True, trigger=True, tail=period)
            [trace] = port.seen()
        order = np.argsort(response.train.t, kind="stable")
        for t, k in zip(response.train.t[order] - response.onset, response.train.counter[order], strict=True):
            yield Spike(float(t), int(k), int(k) in adaptive)
        yield trace
        for k in everyone:
            isi = response.isi(k)
            first, last = (float(isi[0]), float(isi[-1])) if len(isi) else (float("nan"), float("nan"))
            yield Neuron(k, k in adaptive, response.counts[k], first, last)
