"""What the emitted functions look like: names, placement, comments, parameters, layouts."""

from __future__ import annotations

import re

import pytest

from tests.gluon.programs import (
    add,
    below,
    both,
    cast,
    lit,
    load,
    matmul,
    mul,
    op,
    pointer,
    program,
    size,
    softmax,
    space,
    uni,
)
from texpr.aot.ir import IntValue, KernelParam, PresentFlag, ScalarValue, TensorPointer, WorkspacePointer
from texpr.aot.kernel_text import check_parameters, kernel_module
from texpr.dtypes import DType
from texpr.gluon.emit import emit
from texpr.lang.ir import OpName
from texpr.math.expr import const, sym
from texpr.math.intervals import Bounds
from texpr.tile.declarations import Buffer as SharedBuffer
from texpr.tile.declarations import Conflict, IntParam, PresentParam, ScalarParam
from texpr.tile.ir import Assign, For, Full, If, Lane, SharedTile, Store, StoreShared, TileProgram, Var
from texpr.tile.layouts import Blocked, Linear, Swizzled
from texpr.tile.uniform import Scalar
from texpr.tile.verify import verify

LINE = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
ROWS = space("rows", Blocked((1, 4), (1, 32), (4, 1), (1, 0)), ("i", 16), ("j", 128))


def text_of(made: TileProgram, *targets: str) -> str:
    return emit(made, targets or ("sm_80",)).text


def line_with(text: str, part: str) -> str:
    (found,) = [line for line in text.splitlines() if part in line]
    return found.strip()


def test_softmax_reads_like_the_mathematics() -> None:
    text = text_of(softmax())
    body = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    expected = [
        "ROWS: gl.constexpr = gl.BlockedLayout([1, 8], [1, 32], [4, 1], [1, 0])",
        "i0 = pid * 4  # first row of the tile",
        "# m: greatest of each row  [softmax.yaml:9]",
        "x_mask = (i0 + i < M)[:, None] & (j < N)[None, :]",
        "x_ptr = x + i0.to(gl.int64) * N",
        'x_f32 = gl.load(x_ptr + x_offset, mask=x_mask, other=-float("inf")).to(gl.float32)',
        "m = gl.reduce(x_f32, 1, max_nan)",
        "e = gl.exp(x_f32 - m[:, None])",
        "gl.store(y_ptr + x_offset, (e / gl.sum(e, 1)[:, None]).to(gl.float16), mask=x_mask)",
    ]
    positions = [body.index(line) for line in expected]
    assert positions == sorted(positions)


def test_lines_name_their_origin() -> None:
    source = emit(softmax(), ("sm_80",))
    lines = source.text.splitlines()
    origins = dict(source.origins)
    (reduce_line,) = [n for n, line in enumerate(lines) if "gl.reduce" in line]
    assert (origins[reduce_line].node, origins[reduce_line].schedule) == ("m", "softmax.yaml:9")
    (store_line,) = [n for n, line in enumerate(lines) if "gl.store" in line]
    assert (origins[store_line].node, origins[store_line].schedule) == ("y", "softmax.yaml:11")


def test_pipeline_stages_are_written_as_remainders_and_operands_loaded_in_the_loop() -> None:
    text = text_of(matmul())
    loop = text[text.index("for k in range(steps):") :]
    assert "x_shared.index((k + 3) % 4)" in loop
    assert re.search(r"x_tile = x_shared\.index\(k % 4\)\.load\(ACC_X\)", loop)
    assert "acc = mma_v2(x_tile, w_tile, acc)" in loop
    assert "ACC_X: gl.constexpr = gl.DotOperandLayout(0, ACC, 2)" in text


def test_what_a_loop_does_not_change_stands_before_it() -> None:
    text = text_of(matmul())
    before, _, after = text.partition("for s in gl.static_range(3):")
    for name in ("x_offset = ", "w_offset = ", "i_inside = i0 + i < M", "j_inside = j0 + j < N"):
        assert before.count(name) == 1 and name not in after


def test_equal_programs_give_equal_text() -> None:
    assert emit(matmul(), ("sm_80", "sm_90a")) == emit(matmul(), ("sm_80", "sm_90a"))


def test_no_line_is_long() -> None:
    for made in (softmax(), matmul()):
        assert max(map(len, text_of(made).splitlines())) <= 110


def test_variable_of_a_loop_is_recomputed_after_it_changes() -> None:
    acc = Var("acc", DType.F32, LINE, (0,))
    root = op(OpName.SQRT, acc)
    body = [
        Assign("acc", Full(lit(4.0, DType.F32), DType.F32, LINE, (0,))),
        Store("y", const(0), Lane(LINE, 0), None, add(root, root)),
        For("k", const(0), sym("n"), const(1), (Assign("acc", add(root, root)),)),
        Store("z", const(0), Lane(LINE, 0), None, add(root, root)),
    ]
    text = text_of(program("roots", [pointer("y", DType.F32), pointer("z", DType.F32), size("n")], body))
    assert text.count("gl.sqrt(acc)") == 3
    assert text.index("gl.sqrt(acc)") < text.index("for k in range(n):") < text.rindex("gl.sqrt(acc)")


def test_nothing_is_computed_before_the_condition_it_stands_under() -> None:
    """Loads under a condition are not made without it, and what it may have assigned is read again after it."""
    acc, x = Var("acc", DType.F32, LINE, (0,)), load("x", DType.F32, Lane(LINE, 0))
    root = op(OpName.SQRT, acc)
    taken = op(OpName.GT, uni(sym("n")), uni(const(3)))
    body = [
        Assign("acc", Full(lit(4.0, DType.F32), DType.F32, LINE, (0,))),
        Store("y", const(0), Lane(LINE, 0), None, add(root, root)),
        If(taken, (For("k", const(0), sym("n"), const(1), (Assign("acc", add(acc, x)),)),), "sometimes"),
        Store("z", const(0), Lane(LINE, 0), None, add(root, root)),
    ]
    made = program("some", [*(pointer(n, DType.F32) for n in "xyz"), size("n")], body)
    text = text_of(made)
    condition = text.index("# sometimes\n    if n > 3:\n")
    assert text.index("gl.sqrt(acc)") < condition < text.index("gl.load(x") < text.index("for k in")
    assert text.count("gl.sqrt(acc)") == 2
    verify(made)


def test_shared_memory_is_read_again_by_every_statement() -> None:
    tile = SharedTile("stage", None, (0,), DType.F32, LINE, (0,))
    x = load("x", DType.F32, Lane(LINE, 0))
    body = [
        StoreShared("stage", None, x),
        Store("y", const(0), Lane(LINE, 0), None, mul(tile, tile)),
        StoreShared("stage", None, add(x, x)),
        Store("z", const(0), Lane(LINE, 0), None, mul(tile, tile)),
    ]
    buffers = [SharedBuffer("stage", DType.F32, (128,), 0, Swizzled(1, 1, 1, (0,)))]
    text = text_of(program("again", [pointer(n, DType.F32) for n in "xyz"], body, buffers=buffers))
    assert text.count("stage.load(LINE)") == 2


def test_names_never_collide() -> None:
    i = Lane(LINE, 0)
    x = load("range", DType.F32, i)
    body = [
        Scalar("i", const(3)),
        Assign("y", add(x, x)),
        Store("y", const(0), add(i, uni(sym("i"))), None, add(Var("y", DType.F32, LINE, (0,)), x)),
    ]
    source = emit(program("lambda_", [pointer("range", DType.F32), pointer("y", DType.F32)], body), ("sm_80",))
    assert [param.name for param in source.params] == ["range_2", "y"]
    assert "i = 3" in source.text and "i_line = gl.arange(" in source.text
    assert "y_tile = " in source.text and "gl.store(y + " in source.text
    check_parameters(source)


def test_parameters_are_described_for_the_launcher() -> None:
    parameters = [
        pointer("x", DType.F16, 16), pointer("part", DType.F8E4M3, 256), pointer("keep", DType.BOOL, 1),
        IntParam("rows", sym("M") * 8, 8), ScalarParam("alpha", DType.BF16), PresentParam("has_b", "b"),
    ]  # fmt: skip
    made = program("described", parameters, [])
    found = emit(made, ("sm_80",), {"part": WorkspacePointer("acc.part")}).params
    assert found == (
        KernelParam("x", "*fp16", TensorPointer("x"), 16),
        KernelParam("part", "*u8", WorkspacePointer("acc.part"), 256),
        KernelParam("keep", "*u8", TensorPointer("keep"), 1),
        KernelParam("rows", "i32", IntValue(sym("M") * 8), 8),
        KernelParam("alpha", "bf16", ScalarValue("alpha"), 1),
        KernelParam("has_b", "i32", PresentFlag("b"), 1),
    )
    assert emit(made, ("sm_89", "sm_90a")).params[1].type == "*fp8e4nv"


def test_division_truncates_only_where_nothing_is_negative() -> None:
    i = Lane(LINE, 0)
    shifted = op(OpName.SUB, i, uni(1))
    quotients = add(op(OpName.FLOORDIV, i, uni(3)), op(OpName.FLOORDIV, shifted, uni(3)))
    value = add(quotients, op(OpName.MOD, shifted, uni(4)))
    source = emit(program("division", [pointer("y", DType.I32)], [Store("y", const(0), i, None, value)]), ("sm_80",))
    stored = "i // 3 + floor_div(y_difference, 3) + (y_difference & 3)"
    assert line_with(source.text, "gl.store") == f"gl.store(y + i, {stored})"
    assert any("def floor_div(" in chunk for chunk in source.preamble)


def test_arguments_that_may_be_negative_are_divided_with_care() -> None:
    body = [Scalar("q", sym("n") // sym("m")), Store("y", const(0), None, None, uni(sym("q")))]
    made = program("careful", [pointer("y", DType.I32), size("n"), size("m")], body)
    assert "q = n // m" in emit(made, ("sm_80",)).text
    assert "q = floor_div(n, m)" in emit(made, ("sm_80",), ranges={"n": Bounds(None, None)}).text


def test_kernels_of_one_module_share_helpers() -> None:
    first, second = softmax(), softmax()
    second = TileProgram("softmax_2", *(getattr(second, f) for f in ("warps", "parameters", "buffers", "body", "grid")))
    module = kernel_module([emit(first, ("sm_80",)), emit(second, ("sm_80",))])
    assert module.text.count("def max_nan(") == 1


def test_bank_conflicts_are_asserted_in_the_kernel() -> None:
    i, j = Lane(ROWS, 0), Lane(ROWS, 1)
    x = load("x", DType.F32, add(mul(i, uni(128)), j))
    buffers = (SharedBuffer("stage", DType.F32, (128, 16), 2, Swizzled(4, 1, 8, (1, 0)), "two stages"),)
    made = TileProgram(
        "asserted", 4, (pointer("x", DType.F32),), buffers, (Assign("x_tile", x),), const(1),
        conflicts=(Conflict("stage", ROWS, (1, 0)),),
    )  # fmt: skip
    text = text_of(made)
    assert "# two stages" in text
    assert "gl.bank_conflicts(gl.distributed_type(gl.float32, [16, 128], ROWS), " in text
    assert "stage.index(0).permute((1, 0)).type) == 0" in text


def test_linear_layouts_are_spelt_out() -> None:
    layout = Linear(((1,), (2,)), ((4,), (8,), (16,), (32,), (64,)), ((128,), (256,)), (512,))
    line = space("spread", layout, ("i", 512))
    made = program("linear", [pointer("y", DType.I32)], [Store("y", const(0), Lane(line, 0), None, Lane(line, 0))])
    text = text_of(made)
    assert "reg_bases=[[1], [2]]," in text and "shape=[512]," in text


def test_constants_keep_their_type() -> None:
    i = Lane(LINE, 0)
    half = op(OpName.DIV, lit(1.0, DType.F64), lit(3.0, DType.F64))
    stores = [
        Store("y", const(0), i, None, mul(load("x", DType.F64, i), half)),
        Store("h", const(0), i, None, lit(0.1, DType.F16)),
        Store("f", const(0), i, None, lit(-1.5, DType.F8E4M3)),
        Store("n", const(0), i, None, cast(lit(float("nan"), DType.F32), DType.F64)),
    ]
    kinds = {"x": DType.F64, "y": DType.F64, "h": DType.F16, "f": DType.F8E4M3, "n": DType.F64}
    text = text_of(program("constants", [pointer(n, t) for n, t in kinds.items()], stores))
    assert "gl.full([], 1.0, gl.float64) / gl.full([], 3.0, gl.float64)" in text
    assert "gl.full([], 0.1, gl.float16)" in text
    assert "gl.full([], 188, gl.uint8)" in text
    assert 'gl.to_tensor(float("nan")).to(gl.float64)' in text


def test_unknown_target_is_refused() -> None:
    with pytest.raises(KeyError):
        emit(softmax(), ("sm_75",))


def test_masks_without_conjuncts_are_printed_in_place() -> None:
    i = Lane(LINE, 0)
    x = load("x", DType.F32, i, both(below(i, uni(sym("N"))), below(uni(3), i)))
    text = text_of(program("masks", [pointer("x", DType.F32), pointer("y", DType.F32), size("N")],
                           [Store("y", const(0), i, None, x)]))  # fmt: skip
    assert line_with(text, "gl.load") == "gl.store(y + i, gl.load(x + i, mask=(i < N) & (3 < i), other=0.0))"
