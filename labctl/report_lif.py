"""The neuron's paper measured again, row by row, as one self-contained HTML page.

Every number comes from a recorded protocol run through board and oscilloscope; the runs lie beside the page. What the
paper leaves open was chosen in the protocols' defaults or here, and is named in the row. Rows that cannot hold together
with the others are measured and listed as such.
"""

import base64
import html
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

import labctl
from labctl.analysis.waveforms import smooth
from labctl.errors import StorageError, UsageError
from labctl.lif_targets import INCOMPATIBLE, INCONSISTENCIES, TARGETS, TYPICAL, Target
from labctl.quantity import si
from labctl.reader import Run
from labctl.station import Station, load_station, parse_station

WITHIN = 0.05
"""Relative deviation up to which a measured row counts as reproduced."""


class Job(NamedTuple):
    """One run of the report: protocol, parameters, which bench, and its heading."""

    protocol: str
    heading: str
    parameters: dict[str, Any]
    bench: str = "main"


JOBS: dict[str, Job] = {
    "fig3a": Job("lif_rate_vs_rsyn", "Fig. 3A: rate against synaptic resistance", {}, "rsyn"),
    "fig3bc": Job("lif_traces", "Fig. 3B, C: 250 mV across 10 and 50 kΩ", {}),
    "fig4a": Job("lif_fi_curve", "Fig. 4A: f–I curve", {}),
    "fig4bc": Job("lif_traces", "Fig. 4B, C: membrane and output", {"i_syn": (10e-6, 200e-6), "v_thr": (0.8, 1.8)}),
    "fig4d": Job("lif_rate_vs_vpw", "Fig. 4D: saturation by the pulse width", {}),
    "fig4e": Job("lif_pulse_width", "Fig. 4E: output pulse width", {}),
    "fig6ab": Job("lif_pulse_response", "Fig. 6A, B: read pulses", {}),
    "fig6c": Job("lif_pulse_response", "Fig. 6C: leak", {"width": (10e-6,), "v_taun": (1.0, 1.2, 1.246)}),
    "fig6d": Job("lif_leak_down", "Fig. 6D: leak down", {}),
    "fig6e": Job("lif_leak_up", "Fig. 6E: leak up", {}),
    "fig7b": Job("lif_adaptive", "Fig. 7B: an adaptive neuron", {}),
    "fig7c": Job("lif_shared_regulator", "Fig. 7C: a shared regulator", {}),
    "energy": Job("lif_energy", "Sec. III-E: energy", {}),
    "calibration": Job("lif_calibrate", "Calibration of 16 neurons", {}, "mismatch"),
}


class Finding(NamedTuple):
    """What was measured for a row (NaN: not reached), and which bias was chosen where the paper leaves it open."""

    value: float
    chosen: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the page."""

    target: Target
    finding: Finding | None

    @property
    def error(self) -> float:
        """Relative deviation from the paper; NaN where there is nothing to compare."""
        if self.finding is None or not self.target.paper:
            return float("nan")
        return self.finding.value / self.target.paper - 1

    @property
    def verdict(self) -> str:
        """How the measurement stands to the paper."""
        target, finding = self.target, self.finding
        if target.id in INCOMPATIBLE:
            return "incompatible"
        if finding is None:
            return "not measured"
        if target.paper is None:
            return "not given in the paper"
        if target.judge == "none":
            return "see value"
        if target.kind == "range":
            return "covered" if abs(self.error) < 1e-6 else "differs"
        if target.kind == "setting":
            return "as in the paper" if abs(self.error) < 1e-6 else "differs"
        if target.judge == "at least":
            return "reproduced" if math.isnan(finding.value) or finding.value >= target.paper else "differs"
        if target.judge == "count":
            off = abs(finding.value - target.paper)
            return "exact" if off == 0 else "within one" if off <= 1 else "differs"
        return "within 5 %" if abs(self.error) <= WITHIN else "differs"

    @property
    def reproduced(self) -> bool:
        """Whether a row that the authors measured is met."""
        return self.target.kind == "measured" and self.verdict in ("within 5 %", "exact", "within one", "reproduced")


def _at(run: Run, column: str, table: str | None = None, **where: float) -> float:
    """The value of `column` in the row where the other columns are as asked (to 1 part in 10^6)."""
    columns = run.table(table)
    hit = np.ones(len(columns[column]), bool)
    for name, value in where.items():
        hit &= np.isclose(columns[name], value, rtol=1e-6, atol=0)
    return float(columns[column][np.flatnonzero(hit)[0]])


def _edge(run: Run, column: str, end: Callable[[Any], Any]) -> float:
    return float(end(run.table()[column]))


def _late(run: Run, column: str) -> float:
    """The mean of the last five values: the state that adaptation ends in."""
    return float(np.mean(run.table()[column][-5:]))


def _peak(run: Run) -> float:
    """The highest level of the regulator's membrane at the end of the train, noise smoothed away."""
    trace = run.trace("mem", 0)
    return float(np.max(smooth(trace.values, 9)[-len(trace.codes) // 20 :]))


def _break_even(run: Run) -> float:
    e = run.table("estimate")
    return float((e["static"][0] - e["static"][1]) / (e["spike"][1] - e["spike"][0]))


def _chosen(run: Run, *names: str) -> str:
    return ", ".join(f"{name} {si(float(run.params[name]), run.header['param_units'][name])}" for name in names)


def _station_of(run: Run) -> Station:
    return parse_station(run.header["station"]["text"], f"in {run.path}")


def _bias(name: str) -> Callable[[Run], Finding]:
    return lambda run: Finding(_station_of(run).biases[name])


def _slew_ratio(run: Run) -> float:
    """From the periods at two thresholds: what is common to both, offset, latency and pulse, drops out."""
    slews = []
    for current in (10e-6, 200e-6):
        low, high = (_at(run, "isi", i_syn=current, v_thr=v) for v in (0.8, 1.8))
        slews.append(1.0 / (high - low))
    return slews[1] / slews[0]


FINDINGS: dict[str, tuple[str, Callable[[Run], Finding]]] = {
    **{f"bias_{name}": ("fig4a", _bias(name)) for name in TYPICAL},
    "neurons": ("fig4a", lambda r: Finding(float(_station_of(r).chip.neurons))),
    "R_ic": ("fig4a", lambda r: Finding(_station_of(r).chip.r_syn[0])),
    "vref_fig3": ("fig3a", lambda r: Finding(float(r.params["v_ref"]))),
    "vreset": ("fig3bc", lambda r: Finding(_edge(r, "v_low", np.min), "lowest sample, with the scope's noise")),
    "K": ("fig4a", lambda r: Finding(_slew_ratio(r), "V_thr 0.8 and 1.8 V")),
    "fig3_min": ("fig3a", lambda r: Finding(_edge(r, "rate", np.min), _chosen(r, "v_thr", "v_taun"))),
    "fig3_max": ("fig3a", lambda r: Finding(_edge(r, "rate", np.max), _chosen(r, "v_thr", "v_taun"))),
    "fig3_R_low": ("fig3a", lambda r: Finding(_edge(r, "r_syn", np.min))),
    "fig3_R_high": ("fig3a", lambda r: Finding(_edge(r, "r_syn", np.max))),
    "fig3_V_low": ("fig3a", lambda r: Finding(_edge(r, "v_read", np.min))),
    "fig3_V_high": ("fig3a", lambda r: Finding(_edge(r, "v_read", np.max))),
    "fig4_10u_1v8": ("fig4a", lambda r: Finding(_at(r, "rate", i_syn=10e-6, v_thr=1.8), _chosen(r, "v_pw", "v_ref"))),
    "fig4_200u_1v8": ("fig4a", lambda r: Finding(_at(r, "rate", i_syn=200e-6, v_thr=1.8), _chosen(r, "v_pw", "v_ref"))),
    "fig4_10u_0v8": ("fig4a", lambda r: Finding(_at(r, "rate", i_syn=10e-6, v_thr=0.8), _chosen(r, "v_pw", "v_ref"))),
    "fig4_200u_0v8": ("fig4a", lambda r: Finding(_at(r, "rate", i_syn=200e-6, v_thr=0.8), _chosen(r, "v_pw", "v_ref"))),
    "fig4d_vpw0v8": ("fig4d", lambda r: Finding(_at(r, "rate", i_syn=200e-6, v_pw=0.8), _chosen(r, "v_thr", "v_ref"))),
    "fig4d_vpw1v1": ("fig4d", lambda r: Finding(_at(r, "rate", i_syn=200e-6, v_pw=1.1), _chosen(r, "v_thr", "v_ref"))),
    "fig4e_0v45": ("fig4e", lambda r: Finding(_at(r, "width", v_pw=0.45))),
    "fig4e_1v0": ("fig4e", lambda r: Finding(_at(r, "width", v_pw=1.0))),
    "fig6a_10us": ("fig6ab", lambda r: Finding(_at(r, "spikes", width=10e-6))),
    "fig6b_7us": ("fig6ab", lambda r: Finding(_at(r, "spikes", width=7e-6))),
    "fig6b_15us": ("fig6ab", lambda r: Finding(_at(r, "spikes", width=15e-6))),
    "fig6b_15us_n": ("fig6ab", lambda r: Finding(_at(r, "pulses_a_spike", width=15e-6))),
    "fig6b_5us": ("fig6ab", lambda r: Finding(_at(r, "spikes", width=5e-6))),
    "fig6c_low": ("fig6c", lambda r: Finding(_at(r, "spikes", v_taun=1.0), "v_taun 1 V")),
    "fig6c_high": ("fig6c", lambda r: Finding(_at(r, "spikes", v_taun=1.246), "v_taun 1.246 V")),
    "fig6d_fast": ("fig6d", lambda r: Finding(_at(r, "settling", v_taun=1.35), "v_taun 1.35 V; band 20 mV")),
    "fig6d_slow": ("fig6d", lambda r: Finding(_at(r, "settling", v_taun=1.0), "v_taun 1 V; band 20 mV")),
    "fig6d_low": ("fig6d", lambda r: Finding(_edge(r, "v_taun", np.min))),
    "fig6d_high": ("fig6d", lambda r: Finding(_edge(r, "v_taun", np.max))),
    "fig6e_low": ("fig6e", lambda r: Finding(_edge(r, "v_taup", np.min))),
    "fig6e_high": ("fig6e", lambda r: Finding(_edge(r, "v_taup", np.max))),
    "fig6e_rise_1v2": ("fig6e", lambda r: Finding(_at(r, "settling", v_taup=1.2))),
    "fig7_thr_start": ("fig7b", lambda r: Finding(_edge(r, "threshold", lambda x: x[0]), _chosen(r, "width", "v_ref"))),
    "fig7_thr_end": ("fig7b", lambda r: Finding(_peak(r), _chosen(r, "width", "v_ref"))),
    "fig7_isi_start": ("fig7b", lambda r: Finding(_edge(r, "isi", lambda x: x[1]), _chosen(r, "width", "v_ref"))),
    "fig7_isi_end": ("fig7b", lambda r: Finding(_late(r, "isi"), _chosen(r, "width", "v_ref"))),
    "energy_static": ("energy", lambda r: Finding(_at(r, "static", "estimate", v_bcomp=2.4))),
    "energy_static_low": ("energy", lambda r: Finding(_at(r, "static", "estimate", v_bcomp=1.0), "v_bcomp 1 V")),
    "energy_reading": ("energy", lambda r: Finding(_at(r, "reading", "estimate", v_bcomp=2.4))),
    "energy_spike": ("energy", lambda r: Finding(_at(r, "spike", "estimate", v_bcomp=2.4))),
    "energy_spike_low": ("energy", lambda r: Finding(_at(r, "spike", "estimate", v_bcomp=1.0), "v_bcomp 1 V")),
    "energy_cross": ("energy", lambda r: Finding(_break_even(r), "v_bcomp 1 V")),
    "ldo_imax": ("fig4a", lambda r: Finding(_edge(r, "i_syn", np.max))),
}
"""Row → the run it is in, and how it is read off."""


def rows(runs: Mapping[str, Run]) -> list[Row]:
    """Every row of the paper held against the runs that there are."""
    found = []
    for target in TARGETS:
        job, read = FINDINGS[target.id]
        found.append(Row(target, read(runs[job]) if job in runs else None))
    return found


def measure(
    station: str = "sim",
    folder: str | Path = ".",
    *,
    seed: int = 1,
    jobs: Sequence[str] = tuple(JOBS),
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Run]:
    """Run the protocols of `jobs` and record them in `folder`; returns the runs by job.

    Station "sim" brings two relatives: neurons with 10 kΩ … 1 MΩ for Fig. 3A, and with 10 % mismatch for the
    calibration. A bench of one's own is taken for all of them. Raises what the protocols raise.
    """
    unknown = next((job for job in jobs if job not in JOBS), None)
    if unknown:
        raise UsageError(f"the report has no run {unknown!r}; it has {', '.join(JOBS)}")
    benches = {name: _station(station, name) for name in ("main", "rsyn", "mismatch")}
    runs: dict[str, Run] = {}
    for name in ("main", "rsyn", "mismatch"):
        todo = [job for job in jobs if JOBS[job].bench == name]
        if not todo:
            continue
        with labctl.open_bench(benches[name], seed=seed) as bench:
            for job in todo:
                tell(f"{job}: {JOBS[job].protocol}")
                out = Path(folder) / f"{job}.h5"
                runs[job] = labctl.run(JOBS[job].protocol, bench, out=out, **JOBS[job].parameters)
    return {job: runs[job] for job in jobs}


def _station(station: str, name: str) -> Station:
    if station != "sim" or name == "main":
        return load_station(station)
    if name == "rsyn":
        return load_station("sim-rsyn")
    text = load_station("sim").text.replace("mismatch = 0.0 ", "mismatch = 0.1 ")
    return parse_station(text, "sim with 10 % mismatch")


def write(runs: Mapping[str, Run], path: str | Path, seconds: float = float("nan")) -> Path:
    """Write the page with its figures into one HTML file; raises `StorageError`."""
    table = rows(runs)
    measured = [row for row in table if row.target.kind == "measured"]
    met = sum(row.reproduced for row in measured)
    first = next(iter(runs.values()))
    spent = "" if math.isnan(seconds) else f"All runs took {seconds:.1f} s. "
    parts = [
        _HEAD,
        "<h1>The LIF neuron of the UNICO chip, measured</h1>",
        f"<p><b>{met} of {len(measured)}</b> rows that the authors measured are met: within 5 %, counts of spikes exact"
        f" or within one. {spent}Station {html.escape(first.header['station']['name'])}, seed {first.header['seed']},"
        f" {first.header['created'][:16]}, labctl {first.header['versions']['labctl']}"
        f" {html.escape(first.header['versions']['git'])}. Everything was measured through the board and the"
        " oscilloscope; each figure names its recording.</p>",
        "<p>On a simulated bench this compares a model with the paper that it was fitted to: it reproduces, it does not"
        " predict. Nothing here has been checked against a real chip.</p>",
        _table(table),
        "<h2>Incompatible rows</h2><ul>",
        *(f"<li><b>{html.escape(name)}</b> {html.escape(why)}.</li>" for name, why in INCOMPATIBLE.items()),
        "</ul><h2>Where the paper's numbers do not fit each other</h2><ul>",
        *(f"<li>{html.escape(text)}</li>" for text in INCONSISTENCIES),
        "</ul>",
    ]
    if "calibration" in runs:
        parts.append(_calibration(runs["calibration"]))
    parts.append("<h2>Figures</h2>")
    for job, run in runs.items():
        caption = f"{JOBS[job].heading} — {run.protocol}, {Path(run.path).name}"
        parts.append(f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{_picture(run)}">')
        parts.append(f"<figcaption>{html.escape(caption)}</figcaption></figure>")
    path = Path(path)
    try:
        path.write_text("\n".join(parts) + "\n</body></html>\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"report {path} cannot be written ({error})") from error
    return path


def report(station: str = "sim", folder: str | Path = ".", **more: Any) -> Path:
    """Measure everything and write ``lif-report.html`` into `folder`; returns its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    runs = measure(station, folder, **more)
    return write(runs, folder / "lif-report.html", time.monotonic() - started)


def _table(table: Sequence[Row]) -> str:
    lines = [
        "<table><tr><th>figure</th><th>conditions</th><th>quantity</th><th>paper</th><th>measured</th><th>error</th>"
        "<th>verdict</th><th>chosen where the paper is open</th><th>source</th></tr>"
    ]
    for row in table:
        target, finding = row.target, row.finding
        paper = "–" if target.paper is None else si(target.paper, target.unit, 4)
        if target.judge == "at least":
            paper = f"&gt; {paper}"
        value = "–" if finding is None else si(finding.value, target.unit, 4)
        if finding is not None and math.isnan(finding.value):
            value = "not within the record"
        error = "–" if math.isnan(row.error) else f"{row.error * 100:+.1f} %"
        kind = (
            "bad" if row.verdict in ("differs", "not measured") else "odd" if row.verdict == "incompatible" else "good"
        )
        cells = (target.figure, target.conditions, target.quantity)
        lines.append(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + f"<td>{paper}</td><td>{html.escape(value)}</td><td>{error}</td><td class={kind}>{row.verdict}</td>"
            + f"<td>{html.escape(finding.chosen if finding else '')}</td><td>{target.kind}</td></tr>"
        )  # fmt: skip
    return "\n".join([*lines, "</table>"])


def _calibration(run: Run) -> str:
    neurons, check, wanted = run.table("neuron"), run.table("check"), float(run.params["rate"])
    bad = [
        f"{k} ({verdict})" for k, verdict in zip(neurons["neuron"], neurons["verdict"], strict=True) if verdict != "ok"
    ]
    lines = [
        f"<h2>Calibration</h2><p>{len(neurons['neuron'])} neurons, broken: {', '.join(bad) or 'none'}."
        f" Asked for {si(wanted, 'Hz')} at {si(float(run.params['i_syn']), 'A')}:</p><table>"
        "<tr><th></th><th>mean</th><th>spread (sd)</th><th>worst error</th></tr>"
    ]
    for name, text in (
        ("rate_before", "threshold of a typical neuron"),
        ("rate_trim", "the same threshold, each neuron with its own current"),
        ("rate", "each neuron with its own threshold"),
    ):
        values = check[name]
        if len(values):
            worst = np.max(np.abs(values / wanted - 1))
            lines.append(
                f"<tr><td>{text}</td><td>{si(float(values.mean()), 'Hz', 4)}</td>"
                f"<td>{values.std() / wanted * 100:.2f} %</td><td>{worst * 100:.2f} %</td></tr>"
            )
    return "\n".join([*lines, "</table>"])


def _picture(run: Run) -> str:
    from labctl.plot import plot

    with TemporaryDirectory() as folder:
        return base64.b64encode(plot(run, Path(folder) / "figure.png").read_bytes()).decode()


_HEAD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>LIF neuron report</title><style>
body { font: 15px/1.45 sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em .6em; border-bottom: 1px solid #ddd; text-align: left }
.good { color: #176b2c } .bad { color: #b00020; font-weight: bold } .odd { color: #9a5b00; font-weight: bold }
figure { display: inline-block; margin: .5em } figure img { max-width: 540px }
figcaption { font-size: 12px; color: #666 }
</style></head><body>"""
