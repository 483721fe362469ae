"""f–I curve of a LIF neuron: Garg et al., Fig. 4A (rates) and 4D (saturation with the pulse width)."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

from drivers.bench import Bench
from labctl.protocol import Trace, protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One operating point of one neuron."""

    i_syn: A[float, Q("A", meaning="synaptic current, DC")]
    v_thr: A[float, Q("V", meaning="spike threshold")]
    rate: A[float, Q("Hz", meaning="spikes per second within the gate")]
    spikes: A[int, Q("", meaning="spikes counted within the gate")]
    isi: A[float, Q("s", meaning="mean inter-spike interval by time stamps; NaN below two spikes")]
    isi_sd: A[float, Q("s", meaning="standard deviation of the inter-spike interval")]


def plot(run: Run, figure: "Figure") -> None:
    """Rate against current, a line a threshold, both axes logarithmic."""
    table, axes = run.table(), figure.subplots()
    for v_thr in sorted(set(table["v_thr"])):
        at = table["v_thr"] == v_thr
        axes.loglog(table["i_syn"][at] * 1e6, table["rate"][at], "o-", label=f"V$_{{thr}}$ = {v_thr:g} V")
    axes.set(
        xlabel="I$_{syn}$ (µA)", ylabel="firing rate (Hz)", title=f"f–I curve, V$_{{pw}}$ = {run.params['v_pw']:g} V"
    )
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()


@protocol(total=lambda i_syn, v_thr, **_: len(i_syn) * len(v_thr), plot=plot)
def lif_fi_curve(
    bench: Bench,
    i_syn: A[Sequence[float], Q("A", 0, 200e-6, "synaptic current, DC")] = (
        10e-6,
        20e-6,
        50e-6,
        100e-6,
        150e-6,
        200e-6,
    ),
    v_thr: A[Sequence[float], Q("V", 0.1, 3.3, "spike threshold")] = (0.8, 1.8),
    v_pw: A[float, Q("V", 0.3, 1.5, "sets the output pulse width")] = 1.0,
    v_ref: A[float, Q("V", 0, 3.3, "LDO reference; at the typical 2.4 V only 90 µA fit below V_dd")] = 1.0,
    neuron: A[int, Q("", 0, 15, "input neuron")] = 0,
    duration: A[float, Q("s", 10e-6, 100, "gate of the spike counter, chip time")] = 0.1,
    settle: A[float, Q("s", 0, 10, "time at each current before the gate opens")] = 5e-3,
    trace: A[bool, Q("", meaning="also record V_mem with the oscilloscope, one trace a point")] = False,
) -> Iterator[Point | Trace]:
    """Firing rate of one neuron against its DC input current, for several thresholds.

    The board drives IN at V_ref + I·R_syn, waits, and counts the spikes of OUT within its gate.
    """
    with bench.powered(v_pw=v_pw, v_ref=v_ref):
        for threshold in v_thr:
            bench.bias(v_thr=threshold)
            for current in i_syn:
                bench.inject(neuron, current)
                if trace:
                    bench.look_at(f"MEM{neuron}", span=min(duration, 5e-3), full_scale=3.2, offset=1.2)
                counted = bench.count([neuron], duration, settle=settle, stamps=True, trigger=trace)
                isi = counted.isi(neuron)
                yield Point(
                    i_syn=current,
                    v_thr=threshold,
                    rate=counted.rate(neuron),
                    spikes=counted.counts[neuron],
                    isi=float(isi.mean()) if len(isi) else float("nan"),
                    isi_sd=float(isi.std()) if len(isi) else float("nan"),
                )
                if trace:
                    yield bench.seen(f"MEM{neuron}")
