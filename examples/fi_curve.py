"""Script an experiment: the f–I curve at three thresholds, recorded, read back and plotted.

python examples/fi_curve.py [FOLDER]
"""

import sys
from pathlib import Path

import labctl
from labctl.plot import plot


def main(folder: Path) -> Path:
    """Measure into `folder`; returns the recorded file."""
    with labctl.open_bench("sim", seed=1) as bench:
        run = labctl.run(
            "lif_fi_curve", bench, i_syn=[10e-6, 20e-6, 50e-6, 100e-6, 200e-6], v_thr=[0.8, 1.2, 1.8], out=folder
        )
    table = run.table()
    for i_syn, v_thr, rate in zip(table["i_syn"], table["v_thr"], table["rate"], strict=True):
        print(f"{i_syn * 1e6:6.0f} µA  {v_thr:4.1f} V  {rate:10.1f} Hz")
    print(plot(run, run.path.with_suffix(".png")))
    return run.path


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
