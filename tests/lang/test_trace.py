"""The IR that bodies become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.lang import examples
from texpr.dtypes import DType
from texpr.lang.ir import (
    INDEX,
    Algorithm,
    AxisRef,
    Cast,
    Const,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    ReduceOp,
    children,
    top_exprs,
    walk,
)
from texpr.lang.show import def_text


def lines(algorithm: Algorithm) -> list[str]:
    return [def_text(definition) for definition in algorithm.defs]


def all_bindings(definition: Any) -> list[Algorithm]:
    statics = {name: value or 16 for name, value in definition.signature.statics.items()}
    return [definition.bind(types, statics) for types in definition.bindings()]


@pytest.mark.parametrize("definition", examples.ALL, ids=lambda a: a.name)
def test_every_binding_is_well_formed(definition: Any) -> None:
    for algorithm in all_bindings(definition):
        known: set[Func] = set()
        for d in algorithm.defs:
            bound = {*d.axes, *(d.top.axes if isinstance(d.top, Reduce) else ())}
            for root in top_exprs(d.top):
                for node in walk(root):
                    if isinstance(node, AxisRef):
                        assert node.axis in bound and node.axis in algorithm.axes
                    if isinstance(node, Read) and isinstance(node.source, Func):
                        assert node.source in known
                    if isinstance(node, Op):
                        check_types(node)
            assert all(func.axes == d.axes for func in d.funcs)
            known.update(d.funcs)
        assert {func.output for func in known} >= set(algorithm.outputs)
        assert len({func.name for func in known}) == len(known)


def check_types(op: Op) -> None:
    types = {arg.dtype for arg in children(op)}
    assert len(types) == 1, def_text
    assert not any(t.is_float and t not in (DType.F32, DType.F64) for t in types)


def test_linear_gelu() -> None:
    algorithm = examples.linear_gelu.bind({"T": "bf16"})
    acc, y = algorithm.defs
    assert lines(algorithm)[0] == "acc[i, j] = sum(x[i, k].to('f32') * w[k, j].to('f32'), over=k)"
    assert acc.funcs[0].dtype is DType.F32 and acc.funcs[0].output is None
    assert y.funcs[0].dtype is DType.BF16 and y.funcs[0].output is algorithm.outputs[0]
    assert algorithm.doc == "y = gelu(x @ w + b), accumulated in float32."
    assert [str(fact) for fact in algorithm.facts] == ["K % 8 == 0", "N % 8 == 0"]
    reads = [node for node in walk(top_exprs(y.top)[0]) if isinstance(node, Read) and node.source.name == "b"]
    assert len(reads) == 1 and reads[0].absent is not None and reads[0].absent.dtype is DType.BF16


def test_index_arithmetic_is_exact_and_statics_leave_no_trace() -> None:
    algorithm = examples.conv2d.bind({"T": "f16"}, {"sh": 2, "ph": 0})
    assert "x.padded(0.0)[n, p * 2 + r, q + s - 1, (g, c)]" in lines(algorithm)[0]
    read = next(node for node in walk(top_exprs(algorithm.defs[0].top)[0]) if isinstance(node, Read))
    assert all(index.dtype is INDEX for index in read.indices)


def test_reductions_below_the_top_become_automatic_funcs_over_the_axes_they_use() -> None:
    assert lines(examples.softmax_by_helper.bind({"T": "f32"})) == [
        "y.r1[i] = max(x[i, j], over=j)",
        "y.r2[i] = sum(exp(x[i, j] - y.r1[i]), over=j)",
        "y[i, j] = exp(x[i, j] - y.r1[i]) / y.r2[i]",
    ]
    assert [d.funcs[0].automatic for d in examples.softmax_by_helper.bind({"T": "f32"}).defs] == [True, True, False]


def test_mean_is_a_sum_over_a_count() -> None:
    texts = lines(examples.layernorm.bind({"T": "f16"}))
    assert texts[:2] == ["mu.r1[i] = sum(x[i, j].to('f32'), over=j)", "mu[i] = mu.r1[i] / N.to('f32')"]


def test_guards_stay_conditions() -> None:
    algorithm = examples.attention.bind({"T": "f16"}, {"D": 32})
    u = next(d for d in algorithm.defs if d.name == "u")
    assert isinstance(u.top, Reduce) and u.top.op is ReduceOp.SUM and u.top.where is not None
    assert "where=(j < n[b]) & (j <= i + n[b] - S)" in def_text(u)
    assert ".to('f16').to('f32')" in def_text(u)


def test_tuple_definition_has_both_funcs_and_unnamed_components_get_names() -> None:
    algorithm = examples.argmax_rows.bind()
    assert [[func.name for func in d.funcs] for d in algorithm.defs] == [["value", "best"], ["worst.r1", "worst"]]
    assert algorithm.defs[0].funcs[1].dtype is DType.I32
    assert isinstance(algorithm.defs[0].top, Reduce) and algorithm.defs[0].top.exprs[1].dtype is INDEX


def test_one_reduction_used_twice_is_computed_once() -> None:
    @te.algorithm("x: f32[M, N] -> a: f32[M], b: f32[M]")
    def twice(x: Any, a: Any, b: Any) -> None:
        i, j = te.axes(i="M", j="N")
        s = te.sum(x[i, j], over=j)
        a[i] = s * 2
        b[i] = s

    assert lines(twice.bind()) == ["a.r1[i] = sum(x[i, j], over=j)", "a[i] = a.r1[i] * 2.0", "b[i] = a.r1[i]"]


def test_a_rounded_or_broadcast_func_does_not_stand_for_the_reduction_itself() -> None:
    @te.algorithm("x: f32[M, N] -> a: f16[M], b: f32[M], c: f32[M, N], d: f32[M]")
    def shared(x: Any, a: Any, b: Any, c: Any, d: Any) -> None:
        i, j, k = te.axes(i="M", j="N", k="N")
        s = te.sum(x[i, j], over=j)
        a[i] = s
        b[i] = s * 2
        t = te.max(x[i, j], over=j)
        c[i, k] = t
        d[i] = t * 2

    assert lines(shared.bind()) == [
        "a[i] = sum(x[i, j], over=j)",
        "b.r1[i] = sum(x[i, j], over=j)",
        "b[i] = b.r1[i] * 2.0",
        "c[i, k] = max(x[i, j], over=j)",
        "d.r1[i] = max(x[i, j], over=j)",
        "d[i] = d.r1[i] * 2.0",
    ]


def test_counting_takes_the_declared_type_but_never_adds_up_in_f16() -> None:
    @te.algorithm("k: i32[N] -> a: u8[], b: f16[], c: i32[]")
    def count(k: Any, a: Any, b: Any, c: Any) -> None:
        (i,) = te.axes(i="N")
        a[()] = te.sum(1, over=i, where=k[i] > 0)
        b[()] = te.sum(1, over=i, where=k[i] > 0)
        c[()] = te.sum(1, over=i, where=k[i] > 0)

    assert [top_exprs(d.top)[0].dtype.value for d in count.bind().defs] == ["u8", "f32", "i32"]


def test_python_numbers_take_the_other_operand_s_type() -> None:
    @te.algorithm("x: u8[N], h: f16[N] -> a: u8[N], b: f32[N], c: f32[N]")
    def numbers(x: Any, h: Any, a: Any, b: Any, c: Any) -> None:
        (i,) = te.axes(i="N")
        a[i] = 2 * x[i] + 1
        b[i] = h[i] + 1
        c[i] = te.where(x[i] > 3, 1, 0) - h[i]

    assert lines(numbers.bind()) == [
        "a[i] = 2 * x[i] + 1",
        "b[i] = h[i].to('f32') + 1.0",
        "c[i] = where(x[i] > 3, 1.0, 0.0) - h[i].to('f32')",
    ]
    assert {node.dtype for node in walk(top_exprs(numbers.bind().defs[0].top)[0])} == {DType.U8, INDEX}


def test_literals_are_rounded_once_to_their_type() -> None:
    @te.algorithm("x: f32[N] -> y: f32[N]")
    def tenth(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i] * 0.1

    (product,) = top_exprs(tenth.bind().defs[0].top)
    assert product.args[1].value == 0.100000001490116119384765625  # type: ignore[union-attr]
    assert lines(tenth.bind()) == ["y[i] = x[i] * 0.1"]


def test_literals_keep_f64_precision_next_to_f64() -> None:
    @te.algorithm("x: f64[N], c: bool[N] -> y: f64[N], z: f64[N]")
    def tenth(x: Any, c: Any, y: Any, z: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i] * 0.1
        z[i] = x[i] * (te.where(c[i], 0.1, 1) + 0.2)

    first, second = (top_exprs(d.top)[0] for d in tenth.bind().defs)
    constants = [node.value for root in (first, second) for node in walk(root) if isinstance(node, Const)]
    assert constants == [0.1, 0.1, 1.0, 0.2]


def test_numpy_scalars_are_numbers() -> None:
    @te.algorithm("x: f32[N] -> y: f32[N]")
    def scaled(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = np.float32(0.5) * x[i] + np.int64(2)

    assert lines(scaled.bind()) == ["y[i] = 0.5 * x[i] + 2.0"]


def test_powers_multiply_out() -> None:
    @te.algorithm("x: f32[N] -> y: f32[N], z: f32[N]")
    def powers(x: Any, y: Any, z: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i] ** 3
        z[i] = x[i] ** 0.5

    assert lines(powers.bind()) == ["y[i] = x[i] * x[i] * x[i]", "z[i] = x[i] ** 0.5"]


def test_mixed_integer_types_widen_only_without_loss() -> None:
    @te.algorithm("a: i8[N], b: i32[N], c: u16[N] -> y: i32[N]")
    def widen(a: Any, b: Any, c: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = a[i] + b[i] + c[i]

    assert lines(widen.bind()) == ["y[i] = a[i].to('i32') + b[i] + c[i].to('i32')"]


def test_optional_default_that_the_type_cannot_hold_becomes_a_select() -> None:
    @te.algorithm("x: f16[N], b: f16[N]? -> y: f16[N]")
    def default(x: Any, b: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i] * b.get(i, 0.1)

    assert lines(default.bind()) == ["y[i] = x[i].to('f32') * where(present(b), b.get(i, 0.0).to('f32'), 0.1)"]


def test_ptx_gets_constraints_from_its_types() -> None:
    @te.algorithm("a: u32[N], b: f32[N] -> y: u32[N]")
    def inline(a: Any, b: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.ptx("foo $0, $1, $2;", a[i], b[i], dtype="u32", reference=lambda a, b: a)

    (ptx,) = top_exprs(inline.bind().defs[0].top)
    assert ptx.constraints == "=r,r,f"  # type: ignore[union-attr]


def test_locations_are_the_user_s_lines() -> None:
    algorithm = examples.softmax.bind({"T": "f16"})
    locations = [d.location for d in algorithm.defs]
    assert all(at is not None and at.file.endswith("examples.py") for at in locations)
    assert [at.line - locations[0].line for at in locations if at and locations[0]] == [0, 1, 2]


def test_a_float_cast_is_explicit_wherever_a_narrow_float_is_computed_with() -> None:
    algorithm = examples.layernorm.bind({"T": "f16"})
    for d in algorithm.defs:
        for root in top_exprs(d.top):
            for node in walk(root):
                if isinstance(node, Op):
                    assert not any(isinstance(arg, Read) and arg.dtype is DType.F16 for arg in node.args)
                if isinstance(node, Cast):
                    assert node.value.dtype is not node.dtype


def test_axis_on_the_right_of_a_comparison_keeps_the_order_written() -> None:
    assert "where=vox[i] == v" in lines(examples.scatter_mean.bind())[0]
    assert OpName.EQ in {
        n.name for n in walk(top_exprs(examples.scatter_mean.bind().defs[0].top)[-1]) if isinstance(n, Op)
    }
