"""Numbers with units, limits and prefixes."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import ParameterError
from labctl.quantity import Q, inclusive, parse, parse_list, si


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("10u", "A", 10e-6), ("200uA", "A", 200e-6), ("1.5", "V", 1.5), ("50 mV", "V", 50e-3), ("3e-3", "s", 3e-3),
        ("2k", "Ω", 2000.0), ("4.7MΩ", "Ω", 4.7e6), ("-1.2", "V", -1.2), (".5", "", 0.5), ("7µ", "s", 7e-6),
        ("12n", "s", 12e-9),
    ],
)  # fmt: skip
def test_parse(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == value


@pytest.mark.parametrize("text", ["", "u", "1.2.3", "10 apples", "nan", "inf", "1e", "5 V V", "0x10"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="is not a number"):
        parse(text, "V")


@given(st.floats(1e-14, 1e13), st.sampled_from(["A", "V", "s", "Hz"]))
def test_si_reads_back(value: float, unit: str) -> None:
    assert parse(si(value, unit, 12), unit) == pytest.approx(value, rel=1e-10)


def test_si_as_people_write_it() -> None:
    assert [si(2e-4, "A"), si(0.0, "V"), si(-1.5e-3, "V"), si(68e3, "Hz"), si(4, ""), si(math.inf, "V")] == [
        "200 µA", "0 V", "-1.5 mV", "68 kHz", "4", "inf V",
    ]  # fmt: skip


def test_lists_and_ranges_include_both_ends() -> None:
    assert parse_list("0:1.5:50m", "V")[-1] == 1.5
    assert len(parse_list("0:1.5:50m", "V")) == 31
    assert parse_list("1:-1:0.5", "V") == [1.0, 0.5, 0.0, -0.5, -1.0]
    assert parse_list("10u,200u", "A") == [10e-6, 200e-6]
    assert parse_list("0:1:0.3")[-1] == 1.0  # the last step is short rather than lost


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 5))
def test_a_ramp_has_its_ends_and_no_step_too_long(start: float, stop: float, step: float) -> None:
    ramp = inclusive(start, stop, step)
    assert ramp[0] == pytest.approx(start, abs=1e-5 * step)
    assert ramp[-1] == pytest.approx(stop, abs=1e-5 * step)
    assert all(abs(b - a) <= step * (1 + 1e-6) for a, b in pairwise(ramp))


@pytest.mark.parametrize("text", ["1:2", "1:2:0", "0:1:1e-9"])
def test_bad_ranges_are_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        parse_list(text)


def test_limits_say_value_limit_unit_and_what_to_try() -> None:
    q = Q("A", 0, 200e-6, "synaptic current")
    q.check("i_syn", 200e-6)
    with pytest.raises(ParameterError) as caught:
        q.check("i_syn", 300e-6)
    assert str(caught.value) == (
        "i_syn = 300 µA is above the limit of 200 µA (synaptic current); choose a value in 0 A … 200 µA"
    )
    for bad in (math.nan, math.inf, -1e-9):
        with pytest.raises(ParameterError):
            q.check("i_syn", bad)
