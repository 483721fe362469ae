"""Import of oscilloscope CSV: each maker's layout, by hand after the manuals."""

from pathlib import Path

import numpy as np
import pytest

from labctl.errors import StorageError
from labctl.importing import guess, import_file

LAYOUTS = {
    "keysight": "x-axis,1,2\nsecond,Volt,Volt\n-1E-6,+1.0E-03,0.5\n0.0,+2.0E-03,0.5\n+1E-6,+3.0E-03,0.25\n",
    "tek_mso": "Model,MDO3024\nFirmware Version,1.22\n\nHorizontal Units,s\nSample Interval,1e-06\nRecord Length,3\n"
    "TIME,CH1,CH2\n-1e-6,0.001,0.5\n0,0.002,0.5\n1e-6,0.003,0.25\n",
    "rigol": "X,CH1,CH2,Start,Increment,\nSequence,Volt,Volt,-1e-6,1e-06,\n"
    "0,0.001,0.5,,\n1,0.002,0.5,,\n2,0.003,0.25,,\n",
    "rigol_mso": "Time(s),CH1(V),CH2(V)\n-1e-6,0.001,0.5\n0,0.002,0.5\n1e-6,0.003,0.25\n",
    "siglent": "Record Length,Analog:3\nSample Interval,CH1:1e-6\nSource,CH1,CH2\nSecond,Volt,Volt\n"
    "-0.000001,0.001,0.5\n0.0,0.002,0.5\n0.000001,0.003,0.25\n",
    "rohde": "in s,CH1 in V,CH2 in V\n-1.0E-06,1.0E-03,5E-1\n0.0E-06,2.0E-03,5E-1\n1.0E-06,3.0E-03,2.5E-1\n",
    "pico": "Time,CH1,CH2\n(us),(mV),(V)\n\n-1.0,1.0,0.5\n0.0,2.0,0.5\n1.0,3.0,0.25\n",
}


@pytest.mark.parametrize("maker", LAYOUTS)
def test_two_channels(maker: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.csv"
    path.write_text(LAYOUTS[maker])
    assert guess(path) == "scope"
    run = import_file(path)
    assert run.table()["channel"].tolist() == ["CH1", "CH2"]
    assert run.traces == ["ch1", "ch2"]
    first, second = run.trace("ch1"), run.trace("ch2")
    np.testing.assert_allclose(first.values, [1e-3, 2e-3, 3e-3], rtol=1e-15)
    np.testing.assert_allclose(second.values, [0.5, 0.5, 0.25], rtol=1e-15)
    np.testing.assert_allclose(first.t, [-1e-6, 0, 1e-6], atol=1e-18)
    assert first.unit == "V"
    assert run.trace_rows("ch2").tolist() == [1]
    assert run.table()["high"][1] == 0.5
    assert LAYOUTS[maker].splitlines()[0] in run.header["source"]["notes"]["settings"].values()


def test_tek_tds_has_its_settings_beside_the_data(tmp_path: Path) -> None:
    lines = [
        "Record Length,2.500000e+03,,  -0.00250,  0.2,",
        "Sample Interval,1.000000e-03,,  -0.00150,  0.3,",
        "Source,CH2,,  -0.00050,  0.4,",
        "Vertical Units,V,,  0.00050,  0.5,",
        ",,,  0.00150,  0.6,",
    ]
    path = tmp_path / "F0001CH2.CSV"
    path.write_text("\n".join(lines))
    run = import_file(path)
    trace = run.trace("ch2")
    np.testing.assert_allclose(trace.values, [0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_allclose((trace.t0, trace.dt), (-2.5e-3, 1e-3))


def test_lecroy(tmp_path: Path) -> None:
    path = tmp_path / "C1trace.csv"
    path.write_text(
        "LECROYWS44Xs,17339,Waveform\nSegments,1,SegmentSize,3\nSegment,TrigTime,TimeSinceSegment1\n"
        "#1,01-Jan-2010 00:00:00,0\nTime,Ampl\n-1e-6,0.1\n0,0.2\n1e-6,0.3\n"
    )
    np.testing.assert_allclose(import_file(path).trace("ch1").values, [0.1, 0.2, 0.3])


def test_times_written_with_few_digits_are_even_and_a_gap_is_not(tmp_path: Path) -> None:
    even = tmp_path / "even.csv"
    even.write_text("Time(s),CH1(V)\n" + "".join(f"{k * 0.4e-6:.0e},{k}\n" for k in range(20)))
    run = import_file(even)
    np.testing.assert_allclose(run.trace("ch1").dt, 0.4e-6, rtol=0.05)
    assert 0 < run.table()["jitter"][0] < 0.5e-6
    gap = tmp_path / "gap.csv"
    gap.write_text("Time(s),CH1(V)\n0,1\n1,1\n2,1\n10,1\n11,1\n")
    with pytest.raises(StorageError, match=r"not evenly spaced \(line \d: .*--as table"):
        import_file(gap)
    assert import_file(gap, format="table").row_count() == 5


def test_bad_samples_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(LAYOUTS["keysight"] + "2E-6,abc,0.5\n3E-6\n")
    with pytest.raises(StorageError, match=r"2 bad lines.*line 6: a sample is not a number.*line 7: 1 columns"):
        import_file(path)
    assert len(import_file(path, skip_bad=True).trace("ch1").codes) == 3


def test_no_layout(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\nhello,world\n")
    with pytest.raises(StorageError, match="--as table"):
        import_file(path, format="scope")
