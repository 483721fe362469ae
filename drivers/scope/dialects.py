"""How each vendor spells what an oscilloscope does: one frozen value a vendor, known to the driver by name.

Adding an oscilloscope means adding a value here. Beside each value stands what was checked against a manual, and what
was not; nothing here has been checked against a real oscilloscope yet.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.quantity import Q

Reply = Mapping[str, float | str]


@dataclass(frozen=True)
class Setting:
    """A group of settings: what sets them and asks for what is in force, and how to read the answer.

    send: from the driver's names to one message, or several with a newline between them (``"…{n}…".format`` where no
    sum is needed). read: from the answers (a line each) to the same names, SI units; raises `ValueError`.
    """

    send: Callable[..., str]
    read: Callable[[str], Reply]


@dataclass(frozen=True)
class Scaling:
    """What codes mean: volts = code·scale + offset, seconds after the trigger = t0 + k·dt, for `points` codes."""

    points: int
    scale: float
    offset: float
    t0: float
    dt: float


@dataclass(frozen=True)
class Dialect:
    """One vendor's language. What is a function takes the names given beside it as keywords."""

    name: str
    identity: str  # pattern that the answer to *IDN? matches
    channels: int

    # what can be asked, refused by the driver before a byte is sent
    full_scale: Q  # V over the screen's height, for a 1:1 probe
    offsets: tuple[tuple[float, float], ...]  # (full scale up to, |offset| up to), V for a 1:1 probe
    probe: Q
    span: Q  # s over the screen's width
    delay: Q  # s from the trigger to the screen's left edge
    points: tuple[int, ...]  # record lengths to choose from
    level: float  # |trigger level − offset| up to, in full scales
    external: Q  # V, trigger level of the external input
    averages: Q
    average_points: int  # most points of an averaged record
    rounding: float  # relative difference between asked and in force that is no surprise

    # commands
    reset: str  # defaults, stopped, no channel on; a query, answered when done
    channel: Setting  # n, on, probe, coupling, full_scale, offset → full_scale, offset, probe, coupling
    timebase: Setting  # span, left, centre, points → span, centre
    trigger: Setting  # source, level, slope → level
    sources: Callable[[int], str]  # channel, 0 for the external input → source
    slopes: Mapping[str, str]  # rising, falling, either → slope
    mode: Setting  # mode, count → count
    modes: tuple[str, str]  # normal, average
    arm: str
    arm_average: str  # runs until stopped
    stop: str
    force: str
    armed: tuple[str, Callable[[str], bool]]  # query, answer → waits for the trigger (or has had it)
    done: tuple[str, Callable[[str], bool]]  # query, answer → the single acquisition is complete
    triggered: tuple[str, Callable[[str], bool]]  # query, answer → there was a trigger since it was last asked
    averaged: tuple[Callable[..., str], Callable[[str], int]]  # n → query, answer → acquisitions averaged so far
    error: tuple[str, Callable[[str], str]]  # query, answer → what is wrong, "" when the queue is empty
    select: Callable[..., str]  # n, points, format: choose what to read; as Setting.send, answered with the scaling
    formats: tuple[str, str]  # 8 bits, 16 bits
    scaling: Callable[[str], Scaling]
    data: Callable[..., str]  # n, start, stop (first and last point, from 1): query, answered with a block
    codes: Callable[[bytes, bool], NDArray[np.integer]]  # block, word → codes
    clipped: Callable[[NDArray[np.integer]], NDArray[np.bool_]]  # codes → beyond the screen
    data_head: bytes = b""  # what stands before the block
    data_tail: bytes = b"\n"  # and after it
    most_points: int = 10**9  # in one block
    scaling_is_block: bool = False  # the last answer to `select` is a block, given to `scaling` as latin-1


# Keysight InfiniiVision ------------------------------------------------------------------------------------------
# "InfiniiVision 3000T X-Series Oscilloscopes Programmer's Guide", and the guides of the 2000 X-, 3000 X-, 4000 X- and
# 5000 Series where they say the same. Checked there: :WAVeform:PREamble? and its formulas, :WAVeform:DATA? and its
# special codes, formats, :WAVeform:POINts up to 1000, 1000 points at most of an average, bit 3 of
# :OPERegister:CONDition?, :AER?, the reach of :TRIGger:LEVel, the :EXTernal range after *RST, :SYSTem:ERRor? and its
# queue, that :SINGle does not average and that :DIGitize blocks. Unchecked, taken from what public drivers send: limits
# of range, offset, time base and count, :WAVeform:POINts above 1000, :TIMebase:REFerence, :TRIGger:FORCe, :TER?, and
# that :WAVeform:COUNt? counts while the oscilloscope runs.


def _fields(*names: str) -> Callable[[str], Reply]:
    def read(answer: str) -> Reply:
        words = answer.split(";")
        if len(words) != len(names):
            raise ValueError(f"{len(words)} answers to {len(names)} questions")
        return {
            name: float(word) if name[0].islower() else word.upper() for name, word in zip(names, words, strict=True)
        }

    return read


def _infiniivision_scaling(answer: str) -> Scaling:
    # :WAVeform:PREamble?: format, type, points, count, xincrement, xorigin, xreference, yincrement, yorigin, yreference
    # volts = (code − yreference)·yincrement + yorigin, seconds = (k − xreference)·xincrement + xorigin
    words = answer.split(",")
    if len(words) != 10:
        raise ValueError(f"{len(words)} fields instead of 10")
    points = int(words[2])
    xincrement, xorigin, xreference, yincrement, yorigin, yreference = map(float, words[4:])
    return Scaling(
        points=points,
        scale=yincrement,
        offset=yorigin - yreference * yincrement,
        t0=xorigin - xreference * xincrement,
        dt=xincrement,
    )


def _infiniivision_error(answer: str) -> str:
    number, _, text = answer.partition(",")
    return "" if int(number) == 0 else f"{int(number)} {text.strip().strip(chr(34))}"


def _unsigned(block: bytes, word: bool) -> NDArray[np.integer]:
    return np.frombuffer(block, np.dtype("<u2" if word else "u1"))


def _infiniivision_clipped(codes: NDArray[np.integer]) -> NDArray[np.bool_]:
    # :WAVeform:DATA: 0 is a hole (not acquired), 1 clipped low, the highest code clipped high
    return np.asarray((codes <= 1) | (codes == np.iinfo(codes.dtype).max))


KEYSIGHT_INFINIIVISION = Dialect(
    name="keysight-infiniivision",
    identity=r"(KEYSIGHT|AGILENT) TECHNOLOGIES, ?(DSO|MSO|EDU)|labctl,simulated InfiniiVision",
    channels=4,
    full_scale=Q("V", 8e-3, 40.0, "screen height, 1 mV to 5 V a division"),
    offsets=((1.6, 2.0), (40.0, 50.0)),
    probe=Q("", 0.1, 10_000, "probe attenuation"),
    span=Q("s", 20e-9, 500.0, "screen width"),
    delay=Q("s", -250.0, 500.0, "time from the trigger to the left edge of the screen"),
    # :WAVeform:POINts: an even divisor of 1000, or more in steps of 1, 2, 5
    points=(100, 250, 500, *(m * 10**e for e in (3, 4, 5) for m in (1, 2, 5)), 1_000_000, 2_000_000, 4_000_000),
    level=0.75,  # :TRIGger:LEVel:HIGH: 0.75 full scales from the centre
    external=Q("V", -8.0, 8.0, "level of the external trigger input, at its reset range"),
    averages=Q("", 2, 65536, "acquisitions to average"),
    average_points=1000,  # chapter :WAVeform, AVERage data
    rounding=0.02,
    reset="*RST;*CLS;:STOP;:CHAN1:DISP 0;*OPC?",
    channel=Setting(
        ":CHAN{n}:DISP {on:d};PROB {probe:.9G};COUP {coupling};RANG {full_scale:.9G};OFFS {offset:.9G};"
        "PROB?;COUP?;RANG?;OFFS?".format,
        _fields("probe", "COUPLING", "full_scale", "offset"),
    ),
    timebase=Setting(
        (
            ":WAV:POIN:MODE RAW;:WAV:POIN {points};:TIM:MODE MAIN;REF CENT;RANG {span:.9G};POS {centre:.12G};RANG?;POS?"
        ).format,
        _fields("span", "centre"),
    ),
    trigger=Setting(
        ":TRIG:MODE EDGE;SWE NORM;:TRIG:EDGE:SOUR {source};SLOP {slope};LEV {level:.9G};LEV?".format,
        _fields("level"),
    ),
    sources=lambda n: f"CHAN{n}" if n else "EXT",
    slopes={"rising": "POS", "falling": "NEG", "either": "EITH"},
    mode=Setting(":ACQ:TYPE {mode};COUN {count};TYPE?;COUN?".format, _fields("MODE", "count")),
    modes=("NORM", "AVER"),
    arm="*CLS;:SING",  # *CLS also forgets earlier triggers
    arm_average="*CLS;:RUN",
    stop=":STOP",
    force=":TRIG:FORC",
    armed=(":AER?", lambda answer: int(answer) == 1),
    done=(":OPER:COND?", lambda answer: not int(answer) & 8),
    triggered=(":TER?", lambda answer: int(answer) == 1),
    averaged=(":WAV:SOUR CHAN{n};COUN?".format, int),
    error=(":SYST:ERR?", _infiniivision_error),
    select=":WAV:SOUR CHAN{n};FORM {format};UNS 1;BYT LSBF;:WAV:POIN:MODE RAW;:WAV:POIN {points};PRE?".format,
    formats=("BYTE", "WORD"),
    scaling=_infiniivision_scaling,
    data=":WAV:DATA?".format,
    codes=_unsigned,
    clipped=_infiniivision_clipped,
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (KEYSIGHT_INFINIIVISION,)}
"""Every dialect by the name that station files use."""
