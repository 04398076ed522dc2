"""ldmatrix, stmatrix and every mma.sync type, element by element from the layouts in the PTX manual."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.exact import E4M3, E5M2, ValueTable
from tests.emulator.snippets import kernel, run_kernel

rng = np.random.default_rng(29)


def registers_of(lanes_registers: np.ndarray) -> np.ndarray:
    """[32 lanes, registers] -> the array that lane l reads at l * registers."""
    return np.ascontiguousarray(lanes_registers).reshape(-1)


def fp8_values(table: ValueTable, bits: np.ndarray) -> np.ndarray:
    magnitude = np.array(table.values)[np.minimum(bits & 0x7F, len(table.values) - 1)]
    return np.where(bits & 0x80, -magnitude, magnitude)


def a_matrix(kind: str, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Random elements: their storage, and their values."""
    shape = (rows, columns)
    match kind:
        case "f16":
            data = rng.integers(-8, 9, shape).astype(np.float16) / 4
            return data, data.astype(np.float64)
        case "bf16":
            bits = ((rng.integers(-8, 9, shape) / 4).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        case "tf32":
            data = rng.integers(-8, 9, shape).astype(np.float32) / 4
            # The hardware reads only the upper 19 bits.
            return data.view(np.uint32) | rng.integers(0, 0x1000, shape).astype(np.uint32), data.astype(np.float64)
        case "e4m3" | "e5m2":
            table = E4M3 if kind == "e4m3" else E5M2
            bits = rng.integers(0, 0x50, shape).astype(np.uint8) | (rng.integers(0, 2, shape) << 7).astype(np.uint8)
            return bits, fp8_values(table, bits)
        case "s8":
            data = rng.integers(-128, 128, shape).astype(np.int8)
            return data, data.astype(np.float64)
        case "u8":
            data = rng.integers(0, 256, shape).astype(np.uint8)
            return data, data.astype(np.float64)
        case _:
            data = rng.standard_normal(shape)
            return data, data


def fragment_a(data: np.ndarray) -> np.ndarray:
    """[lanes, registers] of an A operand: register r, element e of lane l, from the manual's tables."""
    rows, columns = data.shape
    per_register = max(4 // data.itemsize, 1)
    halves = rows // 8
    count = rows * columns // 32 // per_register
    result = np.empty((32, count, per_register), data.dtype)
    for lane in range(32):
        for r in range(count):
            for e in range(per_register):
                row = lane // 4 + 8 * (r % halves)
                column = (lane % 4) * per_register + e + 4 * per_register * (r // halves)
                result[lane, r, e] = data[row, column]
    return result.reshape(32, -1)


def fragment_b(data: np.ndarray) -> np.ndarray:
    """[lanes, registers] of a B operand ([K, 8])."""
    depth = data.shape[0]
    per_register = max(4 // data.itemsize, 1)
    count = depth * 8 // 32 // per_register
    result = np.empty((32, count, per_register), data.dtype)
    for lane in range(32):
        for r in range(count):
            for e in range(per_register):
                result[lane, r, e] = data[(lane % 4) * per_register + e + 4 * per_register * r, lane // 4]
    return result.reshape(32, -1)


def fragment_c(data: np.ndarray) -> np.ndarray:
    """[lanes, elements] of an accumulator ([M, 8])."""
    count = data.shape[0] * 8 // 32
    result = np.empty((32, count), data.dtype)
    for lane in range(32):
        for j in range(count):
            result[lane, j] = data[lane // 4 + 8 * (j // 2), 2 * (lane % 4) + j % 2]
    return result


def matrix_of(fragment: np.ndarray, rows: int) -> np.ndarray:
    result = np.empty((rows, 8), fragment.dtype)
    for lane in range(32):
        for j in range(fragment.shape[1]):
            result[lane // 4 + 8 * (j // 2), 2 * (lane % 4) + j % 2] = fragment[lane, j]
    return result


def run_mma(opcode: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Execute on whole matrices; the accumulator has C's dtype."""
    fragments = [fragment_a(a), fragment_b(b), fragment_c(c)]
    width = 64 if c.dtype == np.float64 else 32
    counts = [fragment.nbytes // 32 // (width // 8) for fragment in fragments]
    loads, lists = [], []
    for name, count in zip("abc", counts, strict=True):
        registers = [f"%{name}{i}" for i in range(count)]
        lists.append("{" + ", ".join(registers) + "}")
        loads.append(f".reg .b{width} {', '.join(registers)}; ld.param.u64 %p, [{name}];"
                     f"mad.wide.u32 %p, %t, {count * width // 8}, %p;")
        loads += [f"ld.global.b{width} {register}, [%p+{i * width // 8}];" for i, register in enumerate(registers)]
    results = [f"%d{i}" for i in range(counts[2])]
    stores = [f"st.global.b{width} [%p+{i * width // 8}], {register};" for i, register in enumerate(results)]
    text = kernel(
        f"""
        mov.u32 %t, %tid.x; {" ".join(loads)}
        .reg .b{width} {", ".join(results)};
        {opcode} {{{", ".join(results)}}}, {", ".join(lists)};
        ld.param.u64 %p, [d]; mad.wide.u32 %p, %t, {counts[2] * width // 8}, %p; {" ".join(stores)}
        """,
        ".param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d",
        declarations=".reg .b32 %t; .reg .b64 %p;",
    )
    arrays = dict(zip("abc", fragments, strict=True))
    device, addresses, _ = run_kernel(text, {**arrays, "d": fragments[2].nbytes})
    read = np.frombuffer(device.read(addresses["d"], fragments[2].nbytes), c.dtype)
    return matrix_of(read.reshape(32, -1), c.shape[0])


FORMS = [
    ("m16n8k8", "f16", "f16", "f32"), ("m16n8k16", "f16", "f16", "f32"),
    ("m16n8k8", "f16", "f16", "f16"), ("m16n8k16", "f16", "f16", "f16"),
    ("m16n8k8", "bf16", "bf16", "f32"), ("m16n8k16", "bf16", "bf16", "f32"),
    ("m16n8k4", "tf32", "tf32", "f32"), ("m16n8k8", "tf32", "tf32", "f32"),
    ("m16n8k16", "s8", "s8", "s32"), ("m16n8k32", "s8", "s8", "s32"), ("m16n8k32", "u8", "u8", "s32"),
    ("m16n8k32", "s8", "u8", "s32"), ("m16n8k16", "u8", "s8", "s32"),
    ("m16n8k16", "e4m3", "e4m3", "f32"), ("m16n8k32", "e4m3", "e4m3", "f32"), ("m16n8k32", "e5m2", "e5m2", "f32"),
    ("m16n8k32", "e4m3", "e5m2", "f32"), ("m16n8k32", "e5m2", "e4m3", "f16"),
    ("m8n8k4", "f64", "f64", "f64"), ("m16n8k4", "f64", "f64", "f64"), ("m16n8k8", "f64", "f64", "f64"),
    ("m16n8k16", "f64", "f64", "f64"),
]
ACCUMULATORS = {"f32": np.float32, "f16": np.float16, "s32": np.int32, "f64": np.float64}


@pytest.mark.parametrize(("shape", "a_type", "b_type", "accumulator"), FORMS)
def test_matrix_products(shape: str, a_type: str, b_type: str, accumulator: str) -> None:
    rows, depth = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    a, a_values = a_matrix(a_type, rows, depth)
    b, b_values = a_matrix(b_type, depth, 8)
    c = rng.integers(-50, 50, (rows, 8)).astype(ACCUMULATORS[accumulator])
    opcode = f"mma.sync.aligned.{shape}.row.col.{accumulator}.{a_type}.{b_type}.{accumulator}"
    got = run_mma(opcode, a, b, c)
    exact = a_values @ b_values + c.astype(np.float64)
    if accumulator == "s32":
        np.testing.assert_array_equal(got, exact)
    else:
        tolerance = {"f32": 2e-6, "f16": 1e-3, "f64": 1e-14}[accumulator]
        np.testing.assert_allclose(got.astype(np.float64), exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())


def test_integer_accumulators_saturate_on_request_and_wrap_otherwise() -> None:
    a, b = np.full((16, 32), 127, np.int8), np.full((32, 8), 127, np.int8)
    c = np.full((16, 8), 2**31 - 10, np.int32)
    opcode = "mma.sync.aligned.m16n8k32.row.col.{}s32.s8.s8.s32"
    assert (run_mma(opcode.format("satfinite."), a, b, c) == 2**31 - 1).all()
    assert (run_mma(opcode.format(""), a, b, c) == 2**31 - 10 + 32 * 127 * 127 - 2**32).all()


def matrix_kernel(move: str, *, count: int, stores: bool) -> str:
    """Move `count` 8 x 8 matrices through shared memory with one ldmatrix or stmatrix."""
    registers = [f"%r{i}" for i in range(count)]
    each_register = "".join(
        f"ld.global.b32 {register}, [%in+{4 * i}];" if stores else f"st.global.b32 [%out+{4 * i}], {register};"
        for i, register in enumerate(registers)
    )
    listed = "{" + ", ".join(registers) + "}"
    row = "{%x0, %x1, %x2, %x3}"
    if stores:
        row_copy = f"@%p ld.shared.v4.b32 {row}, [%row]; @%p st.global.v4.b32 [%out], {row};"
    else:
        row_copy = f"@%p ld.global.v4.b32 {row}, [%in]; @%p st.shared.v4.b32 [%row], {row};"
    by_lane = f"mad.wide.u32 %{'in' if stores else 'out'}, %t, {4 * count}, %{'in' if stores else 'out'};"
    by_row = f"mad.wide.u32 %{'out' if stores else 'in'}, %t, 16, %{'out' if stores else 'in'};"
    start = f"""
        mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; {by_lane} {by_row}
        mov.u32 %row, buffer; mad.lo.u32 %row, %t, 16, %row; setp.lt.u32 %p, %t, {8 * count};
    """
    move = f"{move} [%row], {listed};" if stores else f"{move} {listed}, [%row];"
    steps = [each_register, move, "bar.sync 0;", row_copy] if stores else [row_copy, "bar.sync 0;", move, each_register]
    return kernel(
        start + "".join(steps), ".param .u64 in, .param .u64 out",
        declarations=f".reg .b32 %t, %row, %x<4>, {', '.join(registers)}; .reg .b64 %in, %out; .reg .pred %p;",
        module=".shared .align 16 .b8 buffer[512];",
    )


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", ["", ".trans"])
def test_matrices_load_from_and_store_to_shared_memory(count: int, transposed: str) -> None:
    matrices = rng.integers(0, 1 << 16, (count, 8, 8)).astype(np.uint16)
    pairs = np.empty((32, count, 2), np.uint16)
    for lane in range(32):
        for m in range(count):
            for e in range(2):
                row, column = lane // 4, 2 * (lane % 4) + e
                pairs[lane, m, e] = matrices[m, column, row] if transposed else matrices[m, row, column]
    text = matrix_kernel(f"ldmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16", count=count, stores=False)
    device, addresses, _ = run_kernel(text, {"in": matrices, "out": pairs.nbytes})
    assert device.read(addresses["out"], pairs.nbytes) == pairs.tobytes()
    text = matrix_kernel(f"stmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16", count=count, stores=True)
    device, addresses, _ = run_kernel(text, {"in": pairs, "out": matrices.nbytes})
    assert device.read(addresses["out"], matrices.nbytes) == matrices.tobytes()
