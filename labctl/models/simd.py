"""Vectors of 16 lanes inside compiled kernels, so that a loop over cells is one of vectors because it says so.

`Floats` (float32), `Words` (uint32) and `Marks` (true or false) take the operators of Python, lane by lane, with a
scalar on either side; they live in registers and exist only in functions that numba compiles. LLVM's own vectoriser
gives up on long loop bodies, and what it makes of short ones changes with their neighbours.

No fast-math: each lane has the bits that the same operations on scalars would give, on any machine.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba import types as numba_types
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

LANES = 16

jit: Any = njit(cache=True, nogil=True, error_model="numpy")
inline: Any = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
types: Any = numba_types  # numba is typed in part only, and its stubs do not know what its decorators do
_intrinsic: Any = intrinsic
_infer: Any = infer_global
_lower: Any = lower_builtin
_cast: Any = lower_cast
_model: Any = register_model
_I8, _I16, _I32, _I64 = (ir.IntType(n) for n in (8, 16, 32, 64))


class Vector(numba_types.Type):
    """Sixteen lanes of one kind: a scalar type of numba, None for truth."""

    def __init__(self, name: str, scalar: Any, lane: Any) -> None:
        self.scalar, self.ir = scalar, ir.VectorType(lane, LANES)
        super().__init__(name=f"labctl.{name}")


Floats = Vector("Floats", types.float32, ir.FloatType())
Words = Vector("Words", types.uint32, _I32)
Marks = Vector("Marks", None, ir.IntType(1))


@_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.ir)  # type: ignore[no-untyped-call]


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


@_cast(types.Number, Vector)
def _from_scalar(context: Any, builder: Any, given: Any, wanted: Vector, value: Any) -> Any:
    return _splat(builder, context.cast(builder, value, given, wanted.scalar))


def _common(args: tuple[Any, ...]) -> Any:
    """The vector type that a call's arguments are brought to, or None where they are not of one kind."""
    vectors = {a for a in args if isinstance(a, Vector)}
    if len(vectors) != 1:
        return None
    kind = next(iter(vectors))
    fits = all(a is kind or (kind is not Marks and isinstance(a, types.Number)) for a in args)
    return kind if fits else None


def _operator(op: Callable[..., Any], emit: dict[Vector, Callable[..., Any]], result: Vector | None = None) -> None:
    """Teach numba `op` on vectors: what it emits for each kind, and the kind of the result if it is another."""

    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kind = _common(args)
            return (result or kind)(*[kind] * len(args)) if kind in emit else None

    _infer(op)(Typing)
    for kind, make in emit.items():

        def lower(_context: Any, builder: Any, _signature: Any, args: Any, make: Any = make) -> Any:
            return make(builder, *args)

        _lower(op, *[kind] * (1 if op in (operator.neg, operator.invert) else 2))(lower)


for _op, _float, _word in (
    (operator.add, "fadd", "add"), (operator.sub, "fsub", "sub"), (operator.mul, "fmul", "mul"),
    (operator.iadd, "fadd", "add"), (operator.truediv, "fdiv", None),
    (operator.lshift, None, "shl"), (operator.rshift, None, "lshr"),
):  # fmt: skip
    _named = {Floats: _float, Words: _word}
    _operator(_op, {k: lambda b, x, y, n=n: getattr(b, n)(x, y) for k, n in _named.items() if n})
for _op, _sign in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
):  # fmt: skip
    _operator(
        _op,
        {
            Floats: lambda b, x, y, s=_sign: b.fcmp_ordered(s, x, y),
            Words: lambda b, x, y, s=_sign: b.icmp_unsigned(s, x, y),
        },
        Marks,
    )
_operator(operator.ne, {Words: lambda b, x, y: b.icmp_unsigned("!=", x, y)}, Marks)
for _op, _name in ((operator.and_, "and_"), (operator.iand, "and_"), (operator.or_, "or_"), (operator.xor, "xor")):
    _operator(_op, dict.fromkeys((Words, Marks), lambda b, x, y, n=_name: getattr(b, n)(x, y)))
_operator(operator.invert, dict.fromkeys((Words, Marks), lambda b, x: b.not_(x)))
_operator(operator.neg, {Floats: lambda b, x: b.fneg(x)})


@_intrinsic
def pointers(_context: Any, arrays: Any) -> Any:
    """A named tuple with a pointer to the elements in place of each contiguous array.

    Numba counts the references of arrays at every use, which costs more than what is done with 16 lanes; pointers are
    free. Only of arguments: an array made in the same function could be freed while its pointer is still in use.
    """
    kinds = [types.CPointer(t.dtype) if isinstance(t, types.Array) else t for t in arrays.types]
    if any(isinstance(t, types.Array) and t.layout != "C" for t in arrays.types):
        return None
    result = types.NamedTuple(kinds, arrays.instance_class)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        items = [builder.extract_value(args[0], i) for i in range(len(kinds))]
        for i, kind in enumerate(signature.args[0].types):
            if isinstance(kind, types.Array):
                items[i] = context.make_array(kind)(context, builder, items[i]).data
        return context.make_tuple(builder, result, items)

    return result(arrays), generate


@_intrinsic
def pointer(_context: Any, array: Any) -> Any:
    """A pointer to the elements of one contiguous array; see `pointers`."""
    if not (isinstance(array, types.Array) and array.layout == "C"):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


def _at(builder: Any, args: Any, to: Any) -> Any:
    return builder.bitcast(builder.gep(args[0], [args[1]]), ir.PointerType(to))


@_intrinsic
def load(_context: Any, at: Any, index: Any) -> Any:
    """The 16 elements from `index` of what `at` points to: float32, uint32 or uint8 (as words)."""
    lane = {types.float32: ir.FloatType(), types.uint32: _I32, types.uint8: _I8}[at.dtype]

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        found = builder.load(_at(builder, args, ir.VectorType(lane, LANES)), align=1)
        return builder.zext(found, Words.ir) if lane is _I8 else found

    return (Floats if at.dtype == types.float32 else Words)(at, types.intp), generate


@_intrinsic
def store(_context: Any, at: Any, index: Any, vector: Any) -> Any:
    """Put a vector from `index` of what `at` points to; words narrow to uint8, floats widen to float64."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value = args[2]
        if at.dtype == types.uint8:
            value = builder.trunc(value, ir.VectorType(_I8, LANES))
        elif at.dtype == types.float64:
            value = builder.fpext(value, ir.VectorType(ir.DoubleType(), LANES))
        builder.store(value, _at(builder, args, value.type), align=1)
        return _context.get_dummy_value()

    return types.none(at, types.intp, vector), generate


@_intrinsic
def put(_context: Any, at: Any, index: Any, marks: Any, vector: Any) -> Any:
    """As `store`, in the marked lanes only."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value = builder.trunc(args[3], ir.VectorType(_I8, LANES)) if at.dtype == types.uint8 else args[3]
        to = _at(builder, args, value.type)
        before = builder.load(to, align=1)
        builder.fence("acq_rel", "singlethread")  # no instruction; or LLVM makes a masked store, 10 times slower on AMD
        builder.store(builder.select(args[2], value, before), to, align=1)
        return context.get_dummy_value()

    return types.none(at, types.intp, Marks, Floats if at.dtype == types.float32 else Words), generate


@_intrinsic
def spread(_context: Any, at: Any, index: Any) -> Any:
    """The one float32 at `index` of what `at` points to, in all lanes."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _splat(builder, builder.load(_at(builder, args, ir.FloatType())))

    return Floats(at, types.intp), generate


@_intrinsic
def prefetch(_context: Any, at: Any, index: Any) -> Any:
    """Have the cache line at `index` of what `at` points to brought to the second cache."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        line = _at(builder, args, _I8)
        kind = ir.FunctionType(ir.VoidType(), [line.type, _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", (line.type,), kind)
        builder.call(function, [line, _I32(0), _I32(2), _I32(1)])  # to read, of middling locality, data
        return context.get_dummy_value()

    return types.none(at, types.intp), generate


@_intrinsic
def choose(_context: Any, marks: Any, a: Any, b: Any) -> Any:
    """a in the marked lanes, b in the others."""
    kind = _common((a, b))
    if kind is None or marks is not Marks:
        return None

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return kind(marks, kind, kind), generate


def _unary(kind: Vector, result: Any, emit: Callable[[Any, Any], Any]) -> Any:
    """A function of one vector."""

    @_intrinsic
    def function(_context: Any, x: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return emit(builder, args[0])

        return (result(kind), generate) if x is kind else None

    return function


def _called(name: str) -> Any:
    def emit(builder: Any, x: Any) -> Any:
        kind = ir.FunctionType(x.type, [x.type])
        return builder.call(builder.module.declare_intrinsic(f"llvm.{name}.v{LANES}f32", (), kind), [x])

    return _unary(Floats, Floats, emit)


sqrt, floor, size = _called("sqrt"), _called("floor"), _called("fabs")
bits = _unary(Floats, Words, lambda b, x: b.bitcast(x, Words.ir))
from_bits = _unary(Words, Floats, lambda b, x: b.bitcast(x, Floats.ir))
to_words = _unary(Floats, Words, lambda b, x: b.fptosi(x, Words.ir))
"""Floats to signed integers, towards zero."""
to_floats = _unary(Words, Floats, lambda b, x: b.sitofp(x, Floats.ir))
"""Words, taken as signed integers, to the nearest floats."""
exponent = _unary(Words, Words, lambda b, x: b.ashr(x, ir.Constant(Words.ir, [23] * LANES)))
"""Words, taken as signed integers, by 2**23, rounded down."""
pack = _unary(Marks, types.int64, lambda b, x: b.zext(b.bitcast(x, _I16), _I64))
"""Marks as 16 bits of an integer, lane 0 the lowest."""


@_intrinsic
def unpack(_context: Any, number: Any) -> Any:
    """The marks that `pack` made a number of."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.trunc(args[0], _I16), Marks.ir)

    return Marks(types.int64), generate


@_intrinsic
def lowest(_context: Any, number: Any) -> Any:
    """Place of the lowest bit that is set, which there must be."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


@_intrinsic
def splat(_context: Any, number: Any) -> Any:
    """A scalar, float32 or uint32, in all lanes."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return {types.float32: Floats, types.uint32: Words}[number](number), generate


@_intrinsic
def lane_of(_context: Any, vector: Any, lane: Any) -> Any:
    """One lane as a scalar."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.extract_element(args[0], builder.trunc(args[1], _I32))

    return vector.scalar(vector, types.intp), generate


@_intrinsic
def counted(_context: Any, first: Any) -> Any:
    """first, first + 1, … as words."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.add(_splat(builder, args[0]), ir.Constant(Words.ir, list(range(LANES))))

    return Words(types.uint32), generate


@_intrinsic
def product(_context: Any, x: Any, factor: Any) -> Any:
    """High and low words of x times a uint32: even and odd lanes apart, as processors multiply."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.VectorType(_I64, LANES // 2)
        pairs = builder.bitcast(args[0], wide)
        k = ir.VectorType(_I64, LANES // 2)(ir.Undefined)
        k = builder.insert_element(k, builder.zext(args[1], _I64), _I32(0))
        k = builder.shuffle_vector(k, k, ir.Constant(ir.VectorType(_I32, LANES // 2), [0] * (LANES // 2)))
        even = builder.mul(builder.and_(pairs, ir.Constant(wide, [0xFFFFFFFF] * (LANES // 2))), k)
        odd = builder.mul(builder.lshr(pairs, ir.Constant(wide, [32] * (LANES // 2))), k)
        even, odd = builder.bitcast(even, Words.ir), builder.bitcast(odd, Words.ir)
        parts = []
        for half in (1, 0):
            order = [n for i in range(half, LANES, 2) for n in (i, i + LANES)]
            parts.append(builder.shuffle_vector(even, odd, ir.Constant(ir.VectorType(_I32, LANES), order)))
        both = ir.LiteralStructType([Words.ir, Words.ir])(ir.Undefined)
        return builder.insert_value(builder.insert_value(both, parts[0], 0), parts[1], 1)

    return types.UniTuple(Words, 2)(Words, types.uint32), generate


@inline
def lesser(a: Any, b: Any) -> Any:
    """The smaller of two in each lane; b where one is NaN."""
    return choose(a < b, a, b)


@inline
def greater(a: Any, b: Any) -> Any:
    """The larger of two in each lane; b where one is NaN."""
    return choose(a > b, a, b)


@inline
def some(marks: Any) -> Any:
    """Whether a lane is marked."""
    return pack(marks) != 0


@inline
def every(marks: Any) -> Any:
    """Whether all lanes are marked."""
    return pack(marks) == 0xFFFF
