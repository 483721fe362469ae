"""kill -9 in the middle of a run: after `recover`, every row synced before the kill is in the file, and no other."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl.recover import recover

CHILD = """
import json, sys, time
import labctl

def watch(item, rows):
    print(json.dumps([rows, time.time()]), flush=True)

with labctl.open_bench("sim", seed=4) as bench:
    labctl.run("iv_sweep", bench, points=40, cycles=100000, dwell=1e-3, out=sys.argv[1], watch=watch)
"""
SYNC = 0.25
"""Seconds within which a row is on the disk."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The same run, not killed, long enough to hold every killed one."""
    with labctl.open_bench("sim", seed=4) as bench:
        out = tmp_path_factory.mktemp("whole") / "whole.h5"
        return labctl.run("iv_sweep", bench, points=40, cycles=400, dwell=1e-3, out=out).table()


@pytest.mark.parametrize("number", range(20))
def test_every_synced_row_survives(number: int, tmp_path: Path, reference: dict[str, np.ndarray]) -> None:
    path = tmp_path / "killed.h5"
    with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        reader = threading.Thread(target=lambda out: printed.extend(out), args=(child.stdout,))
        printed: list[str] = []
        reader.start()
        while not printed:
            assert child.poll() is None
            time.sleep(0.005)
        time.sleep(random.Random(number).uniform(0.0, 0.9))
        killed = time.time()
        child.kill()
        reader.join()
    seen = [json.loads(line) for line in printed if line.rstrip().endswith("]")]
    synced = max((rows for rows, at in seen if at < killed - 2 * SYNC), default=0)  # twice: the machine may be busy

    assert labctl.load(path).status == "interrupted"
    run = labctl.load(recover(path))
    table = run.table()
    rows = len(table["v"])
    assert rows >= synced
    assert rows <= seen[-1][0] + 1
    assert run.status == "recovered"
    for name, values in table.items():
        compared = min(rows, len(reference[name]))
        np.testing.assert_array_equal(values[:compared], reference[name][:compared])
