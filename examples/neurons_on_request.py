"""Calibrate a chip once, keep the file, and ask for neurons by what they shall do.

    python examples/neurons_on_request.py [STATION] [FOLDER]

The second run finds the calibration again and only measures what was asked.
"""

import sys
from pathlib import Path

import labctl
from labctl import calibration


def main(station: str = "sim", folder: str = "calibrations") -> None:
    """Up to ten neurons of the chip at 5 kHz and 20 µA, whatever their mismatch."""
    place = Path(folder)
    place.mkdir(exist_ok=True)
    with labctl.open_bench(station, seed=7) as bench:
        key = calibration.key_of(bench.station, bench.board.identity.text)
        known = calibration.cached(place, key)
        if known is None:
            known = calibration.from_run(labctl.run("lif_calibrate", bench, out=place))
            known.save(calibration.path_in(place, key))
        broken = [item for item in known.neurons if item.verdict != "ok"]
        print(f"{known.chip}, calibrated {known.date[:16]}: {len(known.neurons)} neurons, {len(broken)} broken")
        for item in broken:
            print(f"  neuron {item.neuron}: {item.verdict}")
        print(f"neuron 0: V_thr {known.v_thr(0, rate=5e3, i_syn=20e-6):.3f} V for 5 kHz at 20 µA,")
        print(f"          V_pw {known.v_pw(0, width=100e-6):.3f} V for pulses of 100 µs,")
        print(f"          V_taun {known.v_taun(0, leak_time=30e-3):.3f} V to leak to rest in 30 ms")
        usable = [number for number, good in known.ok.items() if good][:10]
        asked = labctl.run(
            "lif_request", bench, calibration=str(calibration.path_in(place, key)), neuron=usable, out=place
        )
        table = asked.table()
        for number, v_thr, rate in zip(table["neuron"], table["v_thr"], table["rate"], strict=True):
            print(f"neuron {number:2d}: V_thr {v_thr:.3f} V, {rate:.0f} Hz")


if __name__ == "__main__":
    main(*sys.argv[1:])
