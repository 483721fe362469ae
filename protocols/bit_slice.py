"""Bit slices: whole numbers written in bits over several two-state cells, read back, decoded, errors counted."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from typing import Annotated as A

import numpy as np

from drivers.bench import Bench
from drivers.quantities import (
    AVERAGE,
    COLUMN,
    COLUMNS,
    NUMBER,
    R_SHORT,
    ROW,
    ROWS,
    V_READ,
    V_RESET,
    V_SET,
    V_WL_READ,
    V_WL_RESET,
    V_WL_SET,
    WIDTH,
    G,
    T,
)
from drivers.verify import OUTCOME, UNRESOLVED, Band, Ramp, known, write_verify
from labctl import weights
from labctl.errors import MeasurementError
from labctl.protocol import protocol
from labctl.quantity import Q
from labctl.reader import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Word(NamedTuple):
    """One number after it was written."""

    value: A[int, Q("", meaning="the number that was written")]
    decoded: A[float, Q("", meaning="the number that was read; NaN where a device gave no value")]
    error: A[float, Q("", meaning="decoded − value")]
    bit_errors: A[int, Q("", meaning="devices that did not read as they were written")]
    pulses: A[int, NUMBER]
    t: A[float, T]


class Digit(NamedTuple):
    """One device of one number, read after all of them were written."""

    value: A[int, Q("", meaning="the number that was written")]
    bit: A[int, Q("", meaning="place of the device, 0 is the least significant")]
    row: A[int, ROW]
    column: A[int, COLUMN]
    written: A[int, Q("", meaning="0: HRS, 1: LRS")]
    read: A[int, Q("", meaning="0 or 1, by the threshold of the device; −1 where it gave no value")]
    g: A[float, G]
    status: A[str, OUTCOME]


class Device(NamedTuple):
    """The two states of one device, and where they are told apart."""

    bit: A[int, Q("", meaning="place of the device, 0 is the least significant")]
    row: A[int, ROW]
    column: A[int, COLUMN]
    status: A[str, Q("", meaning="done, or why it holds no bit and is not pulsed: stuck, shorted or open")]
    g_lrs: A[float, Q("S", meaning="median conductance after SET; 0 where nothing could be resolved")]
    g_hrs: A[float, Q("S", meaning="median conductance after RESET; 0 where nothing could be resolved")]
    threshold: A[float, Q("S", meaning="a conductance above reads as 1; that of the others where it holds no bit")]


def plot(run: Run, figure: "Figure") -> None:
    """Decoded against written numbers, and the conductance of each device as 0 and as 1."""
    words, digits, devices = run.table(), run.table("digit"), run.table("device")
    left, right = figure.subplots(1, 2)
    wrong = words["error"] != 0
    left.plot(words["value"], words["decoded"], ".", label="right")
    left.plot(words["value"][wrong], words["decoded"][wrong], "x", color="tab:red", label="wrong")
    bits = f"{int(words['bit_errors'].sum())} of {len(digits['bit'])} bits wrong"
    left.set(xlabel="written", ylabel="read", title=f"{wrong.sum()} of {len(wrong)} numbers, {bits}")
    left.legend()
    for written, colour in ((0, "tab:blue"), (1, "tab:orange")):
        at = (digits["written"] == written) & (digits["g"] > 0)
        place = digits["bit"][at] + (written - 0.5) * 0.3
        right.semilogy(place, digits["g"][at] * 1e6, ".", color=colour, markersize=3, label=f"written {written}")
    right.hlines(devices["threshold"] * 1e6, devices["bit"] - 0.4, devices["bit"] + 0.4, color="black", linewidth=1)
    right.set(xlabel="device (0: least significant bit)", ylabel="conductance (µS)", xticks=devices["bit"])
    right.legend()
    for axes in (left, right):
        axes.grid(True, alpha=0.3)


@protocol(total=lambda values, **_: len(values), plot=plot)
def bit_slice(
    bench: Bench,
    rows: A[Sequence[int], ROWS] = (0,),
    columns: A[Sequence[int], COLUMNS] = (0, 1, 2, 3),
    values: A[Sequence[int], Q("", 0, 2**32 - 1, "numbers to write; n devices hold 0 … 2^n − 1")] = tuple(range(16)),
    cycles: A[int, Q("", 1, 200, "SET/RESET cycles that find the two states of each device")] = 5,
    window: A[float, Q("", 1, 1e6, "least ratio of the two states; a device with less holds no bit")] = 1.5,
    margin: A[float, Q("", 1, 100, "a bit is written when it is so far beyond the threshold")] = 1.1,
    attempts: A[int, Q("", 1, 1000, "pulses that a bit may get")] = 10,
    v_set: A[float, V_SET] = 2.8,
    v_set_stop: A[float, Q("V", 0.01, 4.5, "where the SET pulses of a bit that does not turn end")] = 4.0,
    v_reset: A[float, V_RESET] = 2.0,
    v_reset_stop: A[float, Q("V", 0.01, 4.5, "where the RESET pulses of a bit that does not turn end")] = 2.6,
    v_step: A[float, Q("V", 0, 1, "step from pulse to pulse of a bit that does not turn")] = 0.2,
    width: A[float, WIDTH] = 1e-6,
    v_wl_set: A[float, V_WL_SET] = 2.4,
    v_wl_reset: A[float, V_WL_RESET] = 4.2,
    v_read: A[float, V_READ] = 0.2,
    v_wl_read: A[float, V_WL_READ] = 2.5,
    average: A[int, AVERAGE] = 16,
    r_short: A[float, R_SHORT] = 2e3,
) -> Iterator[Word | Digit | Device]:
    """Write each number in bits over the selected cells, read all of them back, and decode.

    The first cell holds the least significant bit; cells are taken row by row. First every device is cycled: its
    threshold is the geometric mean of its two states. Then each bit that is not yet on its side of the threshold gets
    rising SET or RESET pulses with a reading after each, timed by the board, until it is.
    """
    cells = bench.cells(rows, columns, revisit=True)
    digits = weights.bit_slice(values, len(cells))
    rise = Ramp("v", v_set, v_set_stop, v_step, v_set_stop, v_wl_set, width)
    fall = Ramp("v", v_reset, v_reset_stop, v_step, v_reset_stop, v_wl_reset, width)

    with bench.powered():
        least = UNRESOLVED * bench.board.ranges.ranges[0].gain / v_read
        devices: list[Device] = []
        for bit, cell in enumerate(cells):
            program = cell.program()
            for _ in range(cycles):
                program.pulse(v_set, v_wl_set, width).read(v_read, v_wl_read, average)
                program.pulse(-v_reset, v_wl_reset, width).read(v_read, v_wl_read, average)
            g = [np.inf if reading.status == "over" else known(reading) for reading in program.run()]
            lrs, hrs = float(np.median(g[::2])), float(np.median(g[1::2]))
            status = "shorted" if hrs > 1 / r_short else "open" if lrs < least else "done"
            if status == "done" and not lrs > window * hrs:
                status = "stuck"
            threshold = float(np.sqrt(lrs * max(hrs, least))) if status == "done" else float("nan")
            devices.append(Device(bit, cell.row, cell.column, status, lrs, hrs, threshold))
        works = [device.threshold for device in devices if device.status == "done"]
        if not works:
            found = ", ".join(f"({d.row}, {d.column}) {d.status}" for d in devices)
            raise MeasurementError(f"no device has two states: {found}; form the cells, or change the pulses")
        devices = [d if d.status == "done" else d._replace(threshold=float(np.median(works))) for d in devices]
        yield from devices
        for value, written in zip(values, digits.tolist(), strict=True):
            status_of = [device.status for device in devices]
            pulses = 0
            for device, cell in zip(devices, cells, strict=True):
                if device.status == "done":
                    t, one = device.threshold, written[device.bit]
                    low, high = (t * margin, 1 / r_short) if one else (0.0, t / margin)
                    band = Band(low, high, rise, fall, attempts, v_read, v_wl_read, average, r_short=r_short)
                    outcome = write_verify(cell, band)
                    status_of[device.bit], pulses = outcome.status, pulses + len(outcome.pulses)
            read = []
            for device, cell in zip(devices, cells, strict=True):
                [reading] = cell.program().read(v_read, v_wl_read, average).run()
                g_now = known(reading)
                bit = 1 if reading.status == "over" else -1 if np.isnan(g_now) else int(g_now > device.threshold)
                read.append(bit)
                yield Digit(
                    value, device.bit, cell.row, cell.column, written[device.bit], bit, g_now, status_of[device.bit]
                )
            decoded = float("nan") if -1 in read else float(weights.bit_join(read))
            wrong = sum(a != b for a, b in zip(written, read, strict=True))
            yield Word(value, decoded, decoded - value, wrong, pulses, reading.tick * bench.board.identity.tick)
