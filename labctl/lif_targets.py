"""What the neuron's paper says, row by row, to hold measurements against.

Source: N. Garg et al., "Versatile CMOS Analog LIF Neuron for Memristor-Integrated Neuromorphic Circuits". SI units.
"""

from typing import Literal, NamedTuple

Kind = Literal["measured", "SPICE", "range", "text", "derived", "setting"]


class Target(NamedTuple):
    """One row: where it stands, what was done, the value (None: the paper gives none) and its unit.

    kind: measured on the chip, simulated by the authors (SPICE), a range or a setting they used, text without a number,
    or derived from their numbers. judge: how a measurement is held against it: relative deviation, a count of spikes
    (exact or within one), at least the value, or not at all.
    """

    id: str
    figure: str
    conditions: str
    quantity: str
    paper: float | None
    unit: str
    kind: Kind
    judge: Literal["relative", "count", "at least", "none"] = "relative"


TYPICAL = {
    "v_dd": 3.3, "v_ref": 2.4, "v_opa": 2.4, "v_gain": 2.1, "v_taun": 1.2, "v_taup": 1.2, "v_rest": 0.6, "v_thr": 1.2,
    "v_bcomp": 2.4, "v_pw": 1.0,
}  # fmt: skip
"""Table I: typical biases, V."""

TARGETS = (
    *(Target(f"bias_{name}", "Table I", "typical", name, volts, "V", "setting") for name, volts in TYPICAL.items()),
    Target("neurons", "2", "input layer", "neurons", 16, "", "setting"),
    Target("R_ic", "Sec. III-A", "on chip, no external resistor", "R_syn", 10e3, "Ω", "setting"),
    Target("vref_fig3", "3", "Fig. 3 only", "v_ref", 1.0, "V", "setting"),
    Target("vreset", "Sec. II-B", "after a spike", "V_mem", 0.0, "V", "setting", "none"),
    Target("K", "4A", "slew at 200 µA over slew at 10 µA; a constant K = 500 gives 20", "ratio", 507, "", "derived"),
    Target("fig3_min", "3A", "1 MΩ, 100 mV, 1 s", "lowest rate", 8, "Hz", "measured", "count"),
    Target("fig3_max", "3A", "10 kΩ, 400 mV, 1 s", "highest rate", 25e3, "Hz", "measured"),
    Target("fig3_R_low", "3A", "R_syn", "lowest", 10e3, "Ω", "range"),
    Target("fig3_R_high", "3A", "R_syn", "highest", 1e6, "Ω", "range"),
    Target("fig3_V_low", "3A", "V_read, five values", "lowest", 0.1, "V", "range"),
    Target("fig3_V_high", "3A", "V_read, five values", "highest", 0.4, "V", "range"),
    Target("fig4_10u_1v8", "4A", "DC 10 µA, V_thr 1.8 V, 100 ms", "rate", 419, "Hz", "measured"),
    Target("fig4_200u_1v8", "4A", "DC 200 µA, V_thr 1.8 V, 100 ms", "rate", 59e3, "Hz", "measured"),
    Target("fig4_10u_0v8", "4A", "DC 10 µA, V_thr 0.8 V, 100 ms", "rate", 800, "Hz", "measured"),
    Target("fig4_200u_0v8", "4A", "DC 200 µA, V_thr 0.8 V, 100 ms", "rate", 68e3, "Hz", "measured"),
    Target("fig4d_vpw0v8", "4D", "DC up to 200 µA, V_pw 0.8 V", "highest rate", 20e3, "Hz", "measured"),
    Target("fig4d_vpw1v1", "4D", "DC up to 200 µA, V_pw 1.1 V", "highest rate", 92e3, "Hz", "measured"),
    Target("fig4e_0v45", "4E", "V_pw 0.45 V, at V_dd/2", "output pulse width", 20e-3, "s", "measured"),
    Target("fig4e_1v0", "4E", "V_pw 1.0 V, at V_dd/2", "output pulse width", 10e-6, "s", "measured"),
    Target("fig6a_10us", "6A", "100 Hz pulses of 40 µA, 10 µs, 1 s", "rate", 8, "Hz", "measured", "count"),
    Target("fig6b_7us", "6B", "same, 7 µs", "rate", 2, "Hz", "measured", "count"),
    Target("fig6b_15us", "6B", "same, 15 µs", "rate", 18, "Hz", "measured", "count"),
    Target("fig6b_15us_n", "6B", "same, 15 µs", "input pulses a spike", 5, "", "measured", "count"),
    Target("fig6b_5us", "6B", "same, 5 µs", "rate", None, "Hz", "text", "none"),
    Target("fig6c_low", "6C", "10 µs, lower leak", "rate", 12, "Hz", "measured", "count"),
    Target("fig6c_high", "6C", "10 µs, higher leak", "rate", 2, "Hz", "measured", "count"),
    Target("fig6d_fast", "6D", "fast end of V_taun", "threshold → rest", 8e-3, "s", "measured"),
    Target("fig6d_slow", "6D", "slow end of V_taun", "threshold → rest", 2.0, "s", "measured", "at least"),
    Target("fig6d_low", "6D", "V_taun", "lowest", 1.0, "V", "range"),
    Target("fig6d_high", "6D", "V_taun", "highest", 1.35, "V", "range"),
    Target("fig6e_low", "6E", "V_taup, 2 s records", "lowest", 1.1, "V", "range"),
    Target("fig6e_high", "6E", "V_taup, 2 s records", "highest", 1.6, "V", "range"),
    Target("fig6e_rise_1v2", "6E", "V_taup 1.2 V", "0 V → rest", None, "s", "text", "none"),
    Target("fig7_thr_start", "7B", "primary at 1 kHz, with a regulator", "threshold, first", 0.6, "V", "SPICE"),
    Target("fig7_thr_end", "7B", "same", "threshold, last", 2.0, "V", "SPICE"),
    Target("fig7_isi_start", "7B", "same", "inter-spike interval, first", 2e-3, "s", "SPICE"),
    Target("fig7_isi_end", "7B", "same", "inter-spike interval, last", 5e-3, "s", "SPICE"),
    Target(
        "energy_static", "Sec. III-E", "LDO 10 µW, attenuator 10 pW, neuron 5 µW", "static", 15.00001e-6, "W", "SPICE"
    ),
    Target(
        "energy_static_low",
        "Sec. III-E",
        "same, neuron 17 nW (low comparator bias)",
        "static",
        10.01701e-6,
        "W",
        "SPICE",
    ),
    Target("energy_reading", "Sec. III-E", "LDO 18 µW, attenuator 20 µW", "more while reading", 38e-6, "W", "SPICE"),
    Target("energy_spike", "Sec. III-E", "fast comparator", "energy of a spike", 200e-12, "J", "SPICE"),
    Target("energy_spike_low", "Sec. III-E", "low comparator bias", "energy of a spike", 7e-9, "J", "SPICE"),
    Target(
        "energy_cross", "Sec. III-E", "both comparator biases", "break-even rate", 4.983e-6 / 6.8e-9, "Hz", "derived"
    ),
    Target("ldo_imax", "Sec. III-E", "LDO", "largest current", 200e-6, "A", "range"),
)

INCOMPATIBLE = {
    "fig3_max": "does not fit Figs. 4 and 6 under one parameter set: at 40 µA their slew gives about 12 kHz with the"
    " threshold that gives the 8 Hz end; 25 kHz needs 1.8 to 3 times the slew, or V_thr near 0.2 V, where V_rest alone"
    " makes the neuron fire"
}
"""Rows that cannot hold together with the others, and why. They are measured and listed, never tuned."""

INCONSISTENCIES = (
    "V_ref: Table I says 2.4 V, Fig. 3 uses 1 V. 200 µA through 10 kΩ needs 2 V above V_ref, more than V_dd at 2.4 V:"
    " Fig. 4 cannot have used the value of Table I; 1 V is used here.",
    "K = 500 constant, against Fig. 4A: 20 times the current gives about 500 times the slew. That ratio hangs on"
    " the difference of 59 and 68 kHz: a neuron within 5 % of both rates can be far from it, and the fitted one is.",
    "Fig. 4A fits only with about 0.29 V of comparator offset and 3 µs of latency.",
    "Fig. 6B: 5 pulses a spike at 100 Hz are 20 Hz, 18 Hz is stated; 3 % of charge jitter a pulse gives 18.",
    "The conclusion lets a longer output pulse raise the rate; Fig. 4D shows the opposite.",
    "A pulse of 10 µs alone caps the rate at 100 kHz; 92 and 68 kHz need the 3 µs of latency on top.",
    "A spike of 3.3 V into 10 kΩ gives 90 µA at V_ref 2.4 V but 230 µA, more than the LDO can, at 1 V.",
    "The reading power of 38 µW is 11.5 µA from 3.3 V; at which read current it was simulated is not stated.",
    "Fig. 7: the regulator's membrane reaches 2 V, so its own threshold must be above the typical 1.2 V.",
    "Fig. 6E: neither sign nor slope of V_taup is given; the chip's model takes it as PMOS.",
)
"""Where the paper's numbers do not fit each other."""
