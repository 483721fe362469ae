"""Neurons on request: "5 kHz at 20 µA" by a calibration, and what they then do."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

from drivers.bench import Bench
from labctl.calibration import Calibration, assemble, key_of, read
from labctl.errors import UsageError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run
from protocols.lif_calibrate import Neuron, Slew, lif_calibrate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Point(NamedTuple):
    """One neuron at the requested point."""

    neuron: A[int, Q("", meaning="input neuron")]
    v_thr: A[float, Q("V", meaning="threshold that the calibration asks for")]
    rate: A[float, Q("Hz", meaning="spikes per second, measured")]
    error: A[float, Q("", meaning="relative deviation from the requested rate")]


def plot(run: Run, figure: "Figure") -> None:
    """Measured rates around the requested one."""
    table, axes, wanted = run.table(), figure.subplots(), float(run.params["rate"])
    axes.plot(table["neuron"], table["rate"], "o")
    axes.axhline(wanted, color="gray", linewidth=0.8)
    title = f"{wanted:g} Hz at {float(run.params['i_syn']) * 1e6:g} µA requested"
    axes.set(xlabel="neuron", ylabel="rate (Hz)", title=title)
    axes.grid(True, alpha=0.3)


@protocol(total=lambda neuron, **_: len(neuron), plot=plot)
def lif_request(
    bench: Bench,
    calibration: A[str, Q("", meaning="calibration file or run of lif_calibrate; empty: calibrate first")] = "",
    rate: A[float, Q("Hz", 1, 100e3, "requested rate")] = 5e3,
    i_syn: A[float, Q("A", 1e-6, 200e-6, "current at which it is requested")] = 20e-6,
    neuron: A[Sequence[int], Q("", 0, 31, "input neurons, one after the other")] = tuple(range(16)),
    duration: A[float, Q("s", 1e-3, 100, "gate of the spike counter")] = 0.1,
) -> Iterator[Point]:
    """Set each neuron's threshold to what its calibration says gives the requested rate, and count.

    Refuses a calibration of another chip or another wiring, and neurons that are broken in it, before power is on.
    A re-execution needs the same calibration file in its place.
    """
    known = read(calibration) if calibration else calibrated(bench, neuron)
    if known.key != key_of(bench.station, bench.board.identity.text):
        raise UsageError(f"{calibration} belongs to {known.chip} with another wiring or board; run lif_calibrate here")
    thresholds = {k: known.v_thr(k, rate, i_syn) for k in neuron}
    with bench.powered(v_ref=known.biases["v_ref"]):
        for k, v_thr in thresholds.items():
            bench.bias(v_thr=v_thr)
            bench.inject(k, i_syn)
            measured = bench.count([k], duration, settle=5 / rate).rate(k)
            bench.inject(k, 0.0)
            yield Point(k, v_thr, measured, measured / rate - 1)


def calibrated(bench: Bench, neuron: Sequence[int]) -> Calibration:
    """Calibrate these neurons now, with the defaults of `lif_calibrate`."""
    rows = list(lif_calibrate(bench, neuron=neuron))
    neurons = [row._asdict() for row in rows if isinstance(row, Neuron)]
    slews = [row._asdict() for row in rows if isinstance(row, Slew)]
    v_ref = float(str(lif_calibrate.parameters["v_ref"].default))
    return assemble(bench.station, bench.board.identity.text, neurons, slews, v_ref)
