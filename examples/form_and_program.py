"""Script a memristor experiment: form a pristine array, look at it, potentiate and depress one of its cells.

python examples/form_and_program.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np

import labctl
from labctl.plot import plot
from labctl.station import load_station, parse_station


def main(folder: Path) -> list[Path]:
    """Measure into `folder`; returns the recorded files."""
    pristine = parse_station(load_station("sim").text.replace("formed = true", "formed = false"), "pristine array")
    with labctl.open_bench(pristine, seed=2) as bench:
        formed = labctl.run("forming", bench, rows=[0, 1, 2, 3], out=folder)
        mapped = labctl.run("read_map", bench, rows=[0, 1, 2, 3], out=folder)
        trained = labctl.run("potentiation_depression", bench, row=0, column=0, cycles=3, out=folder)
    v_form, g = formed.table()["v_form"], mapped.table()["g"]
    print(f"formed {np.isfinite(v_form).sum()} cells at {np.nanmedian(v_form):.2f} V (median)")
    print(f"conductance {np.nanmedian(g) * 1e6:.0f} µS (median)")
    runs = [formed, mapped, trained]
    for run in runs:
        print(plot(run, run.path.with_suffix(".png")))
    return [run.path for run in runs]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
