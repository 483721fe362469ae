"""Driver of the FPGA board: typed requests over a `FrameLink`, in volts, amperes and seconds."""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.fpga.messages import (
    DOSES,
    NONE,
    REPLY,
    Abort,
    Capability,
    DacSetting,
    Error,
    ErrorCode,
    Fetch,
    FetchSpikes,
    GetDoses,
    GetRanges,
    GetStatus,
    Hello,
    Identity,
    Lease,
    Limit,
    Load,
    Ranges,
    Request,
    Route,
    Safe,
    SelfTest,
    SetDacs,
    SetLimits,
    SetRoutes,
    Start,
    State,
    Status,
)
from drivers.fpga.program import RECORD, Instruction, Kind, SampleFlag, assemble, disassemble
from labctl.errors import BenchError, InstrumentError, LimitError, LinkError
from labctl.link import FrameLink
from labctl.quantity import si
from labctl.wire.message import Message, WireError

ReplyT = TypeVar("ReplyT", bound=Message)
LEASE = 30.0
"""Seconds of silence after which the board makes itself safe."""
_EVENT_SIZE = 9


class Reading(NamedTuple):
    """One typed current reading (A), taken at `v` volts over the cell (0 where nobody said). What `status` says:
    `drivers.quantities.STATUS`; only "ok" is a value to compute with."""

    current: float
    status: str
    range: int
    tick: int
    tag: int
    v: float = 0.0

    @property
    def g(self) -> float:
        """Conductance at the voltage of this reading, in S; NaN where the reading is no value."""
        return self.current / self.v if self.status == "ok" and self.v else math.nan

    @property
    def r(self) -> float:
        """Resistance at the voltage of this reading, in Ω; NaN where the reading is no value."""
        return self.v / self.current if self.status == "ok" and self.current else math.nan


class SpikeTrain(NamedTuple):
    """Time-stamped spikes: t (n,) in s on the board's clock, counter (n,), and how many the full FIFO lost."""

    t: NDArray[np.float64]
    counter: NDArray[np.uint8]
    lost: int


class Board:
    """The board. Nothing is sent before `connect`."""

    def __init__(self, link: FrameLink) -> None:
        self.link = link
        self.identity: Identity
        self.ranges: Ranges
        self._gain: NDArray[np.float64]
        self._offset: NDArray[np.float64]

    def connect(self, session: int) -> Identity:
        """Open a session (lines safe, sequence 0) and learn who answers; raises `LinkError`, `VersionError`."""
        self.link.restart()
        self.identity = self.ask(Hello(session))
        self.ranges = self.ask(GetRanges())
        self._gain = np.array([item.gain for item in self.ranges.ranges])
        self._offset = np.array([item.offset for item in self.ranges.ranges])
        return self.identity

    def close(self) -> None:
        """Release the link; the board goes safe by itself when its lease runs out."""
        self.link.transport.close()

    def ask(self, request: Request[ReplyT]) -> ReplyT:
        """One request, its reply. Raises `LimitError` or `InstrumentError` for what the board refuses."""
        frame = self.link.exchange(request.TYPE, request.encode())
        name = type(request).__name__
        try:
            if frame.type == Error.TYPE:
                raise _refused(name, Error.decode(frame.payload))
            if frame.type != request.TYPE | REPLY:
                raise LinkError(f"board answers {name} with a frame of type 0x{frame.type:02x}")
            return request.ANSWER.decode(frame.payload)  # type: ignore[return-value]
        except WireError as error:
            raise LinkError(f"board answers {name} with what is no answer to it: {error}") from error

    # outputs -----------------------------------------------------------------------------------------------------

    def code(self, channel: int, volts: float) -> int:
        """The converter code nearest to `volts`; raises `LimitError` outside the converter's range."""
        full = self.identity.dac_full_scale
        if not (math.isfinite(volts) and -1e-9 <= volts <= full * (1 + 1e-9)):
            raise LimitError(
                f"DAC {channel}: {si(volts, 'V')} is outside the converter's 0 V … {si(full, 'V')}; nothing was set"
            )
        return min(65535, max(0, round(volts / full * 65535)))

    def set_dacs(self, volts: Mapping[int, float]) -> None:
        """Set converters (number → V) at one tick, all or none."""
        self.ask(SetDacs(tuple(DacSetting(channel, self.code(channel, v)) for channel, v in volts.items())))

    def set_routes(self, routes: Sequence[tuple[int, int, int]]) -> None:
        """Connect lines (LineKind, line, Source or Source.DAC + k) at one tick, all or none."""
        self.ask(SetRoutes(tuple(Route(*route) for route in routes)))

    def set_limits(self, limits: Sequence[tuple[int, int | None, float, float]]) -> None:
        """Replace the clamp table: (converter, reference converter or None, lowest V, highest V of the difference)."""
        per_volt = 65535 / self.identity.dac_full_scale
        self.ask(
            SetLimits(
                tuple(
                    Limit(channel, NONE if reference is None else reference, *_limit_codes(low, high, per_volt))
                    for channel, reference, low, high in limits
                )
            )
        )

    def lease(self, seconds: float = LEASE) -> None:
        """Take the lease without which outputs stay at 0; each request renews it."""
        self.ask(Lease(seconds))

    def safe(self) -> None:
        """End whatever runs and make the lines safe, in the board's order."""
        self.ask(Safe())

    def abort(self) -> None:
        """End a running program within one instruction and make the lines safe."""
        self.ask(Abort())

    def status(self) -> Status:
        """How the board is."""
        return self.ask(GetStatus())

    def self_test(self) -> dict[str, str]:
        """Test → "ok" or what is wrong."""
        lines = self.ask(SelfTest()).report.splitlines()
        return dict(line.split(": ", 1) for line in lines)

    def doses(self, word_line: int) -> tuple[int, NDArray[np.int64]] | None:
        """The number drawn at power-on, and what a word line's cells were given since, (len(DOSES), bit lines).

        None for a board that does not count.
        """
        if not self.identity.capabilities & Capability.DOSES:
            return None
        answer = self.ask(GetDoses(word_line))
        if len(answer.counts) != 8 * len(DOSES) * self.identity.bit_lines:
            raise LinkError(f"board answers GetDoses with {len(answer.counts)} bytes of counts")
        counts = np.frombuffer(answer.counts, "<u8").reshape(-1, len(DOSES))
        return answer.boot, counts.T.astype(np.int64)

    # programs ----------------------------------------------------------------------------------------------------

    def run(
        self, program: Sequence[Instruction], check_abort: Callable[[], None] = lambda: None
    ) -> Generator[NDArray[np.void], None, None]:
        """Run a program; yield its records in blocks of dtype `RECORD` as they come.

        check_abort is called between fetches; when it raises, the board is aborted first. The same happens when the
        caller stops iterating. Raises `LimitError` or `InstrumentError` when the program faults.
        """
        code = assemble(list(program))
        for offset in range(0, len(code), 8192):
            self.ask(Load(offset, code[offset : offset + 8192]))
        self.ask(Start())
        running = True
        try:
            while running:
                chunk = self.ask(Fetch(800))
                running = chunk.state == State.RUNNING
                if chunk.records:
                    yield np.frombuffer(chunk.records, RECORD)
                if running:
                    check_abort()
        finally:
            if running:
                self.abort()
        if chunk.state != State.DONE:
            where = type(disassemble(code)[chunk.position][0]).__name__ if chunk.position < len(code) else "?"
            if chunk.state == State.FAULT:
                refusal = Error(chunk.fault, chunk.value, chunk.limit, "")
                raise _refused(f"program at byte {chunk.position} ({where})", refusal)
            raise InstrumentError(f"board ended the program at byte {chunk.position}: {State(chunk.state).name}")

    def readings(self, records: NDArray[np.void]) -> list[Reading]:
        """The SAMPLE records of a block as typed readings."""
        samples = records[records["kind"] == Kind.SAMPLE]
        currents = samples["value"] * self._gain[samples["aux"]] + self._offset[samples["aux"]]
        return [
            Reading(current, _STATUS[flags], chosen, tick, tag)
            for current, flags, chosen, tick, tag in zip(
                currents.tolist(),
                samples["flags"].tolist(),
                samples["aux"].tolist(),
                samples["tick"].tolist(),
                samples["tag"].tolist(),
                strict=True,
            )
        ]

    def spikes(self) -> SpikeTrain:
        """Empty the spike FIFO."""
        blocks, lost, left = [], 0, 1
        while left:
            answer = self.ask(FetchSpikes(1800))
            blocks.append(answer.events)
            lost, left = lost + answer.lost, answer.left
        raw = np.frombuffer(b"".join(blocks), np.uint8).reshape(-1, _EVENT_SIZE)
        ticks = np.ascontiguousarray(raw[:, :8]).view("<u8")[:, 0]
        return SpikeTrain(ticks * self.identity.tick, raw[:, 8].copy(), lost)


_STATUS = {0: "ok", SampleFlag.OVER: "over", SampleFlag.BELOW: "below", SampleFlag.FLOATING: "open"}


def _limit_codes(low: float, high: float, per_volt: float) -> tuple[int, int]:
    """A limit in codes, rounded to the nearest as outputs are: an output at the limit itself is within it."""
    bound = 2**31 - 1
    return (
        max(-bound, round(low * per_volt)) if math.isfinite(low) else -bound,
        min(bound, round(high * per_volt)) if math.isfinite(high) else bound,
    )


def _refused(what: str, error: Error) -> BenchError | LimitError:
    code = ErrorCode(error.code).name if error.code in set(ErrorCode) else f"code {error.code}"
    numbers = "" if math.isnan(error.value) else f": {error.value:g}"
    if not math.isnan(error.limit):
        numbers += f", limit {error.limit:g}"
    text = f"board refuses {what}: {code} {error.detail}{numbers}; nothing was applied"
    return LimitError(text) if error.code == ErrorCode.LIMIT else InstrumentError(text)
