"""What a signature string means."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import texpr as te
from tests.lang import examples
from tests.lang.examples import attention, conv2d
from texpr.dtypes import DType
from texpr.errors import TExprError
from texpr.lang.ir import Role, Scalar, Tensor
from texpr.math.expr import const
from texpr.math.parse import parse_int


def read(text: str, **options: Any) -> Any:
    from texpr.lang.signature import read_signature

    defaults: dict[str, Any] = dict(types={}, static=(), dims={}, require=(), at=None)
    return read_signature(text, **(defaults | options))


def bind(text: str, **options: Any) -> Any:
    from texpr.lang.signature import bind_signature

    return bind_signature(read(text, **options), "name", {}, {})


def test_free_dims_are_those_of_inputs_in_order_of_appearance() -> None:
    assert read("a: f32[K, M], b: i32[M + 1] -> y: f32[M]").dims == ("K", "M")


def test_composite_dim_is_one_storage_dim() -> None:
    (q,) = bind("q: f32[B, (G, R), (D+1)//2] -> y: f32[]").params[:1]
    assert q.groups == (1, 2, 1)
    assert q.shape == tuple(parse_int(text) for text in ("B", "G", "R", "(D + 1)//2"))


def test_starred_dims_have_free_strides() -> None:
    (x,) = bind("x: f32[M*, K * 2, N*] -> y: f32[M]").params[:1]
    assert x.strided == (0, 2)
    assert x.shape[1] is parse_int("2*K")


def test_ranges_become_half_open() -> None:
    x, n, y = bind("x: i32[N] in [-1, N], n: i32 in (0, 8) -> y: i32[N]").params
    assert (x.low, x.high) == (const(-1), parse_int("N + 1"))
    assert isinstance(n, Scalar)
    assert (n.low, n.high) == (const(1), const(8))
    assert isinstance(y, Tensor) and y.role is Role.OUTPUT


def test_alias_optional_and_rank_zero() -> None:
    x, b, y, s = bind("x: f32[N], b: f32[N]? -> y: f32[N] alias(x), s: f32[]").params
    assert y.may_alias == "x" and b.optional and not x.optional and s.shape == ()


def test_statics_are_substituted_and_derived_dims_follow() -> None:
    algorithm = conv2d.bind({"T": "f16"}, {"sh": 2, "R": 5})
    derived = {dim.name: dim.value for dim in algorithm.dims}
    assert derived["P"] is parse_int("(H - 3) // 2 + 1")
    assert derived["H"] is None
    assert algorithm.inputs[1].shape[1] is const(5)
    assert dict(algorithm.statics)["sw"] == 1


def test_derived_dims_may_use_each_other_in_any_order() -> None:
    bound = bind("x: f32[N] -> y: f32[B]", dims=dict(B="A + 1", A="N * 2"))
    assert {dim.name: str(dim.value) for dim in bound.dims} == {"N": "None", "B": "2*N + 1", "A": "2*N"}


def test_bindings_are_the_product_of_the_type_variables() -> None:
    @te.algorithm("x: T[N], g: U[N] -> y: T[N]", T=("f16", "bf16"), U=("f16", "f32"))
    def scale(x: Any, g: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i] * g[i]

    assert [tuple(b.values()) for b in scale.bindings()] == [
        ("f16", "f16"),
        ("f16", "f32"),
        ("bf16", "f16"),
        ("bf16", "f32"),
    ]
    assert scale.bind({"T": "bf16", "U": "f32"}).types == (("T", DType.BF16), ("U", DType.F32))


def test_equal_bindings_are_one_object() -> None:
    first = attention.bind({"T": "f16"}, {"D": 64})
    assert attention.bind({"T": DType.F16}, {"D": 64}) is first
    assert attention.bind({"T": "f16"}, {"D": 128}) is not first


def test_whitespace_and_newlines_do_not_matter() -> None:
    assert read(" x :f32[ M,(G , R) ]?\n->y:f32 [M] ").dims == ("M", "G", "R")


def test_mutilated_signatures_fail_with_an_error_of_ours() -> None:
    generator = random.Random(3)
    texts = [definition.signature.text for definition in examples.ALL]
    for _ in range(1500):
        text = generator.choice(texts)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(len(text))
            text = text[:at] + generator.choice(["", *"()[],:?*+->in 0N"]) + text[at + generator.randint(0, 2) :]
        with contextlib.suppress(TExprError):
            read(text, types={"T": ("f16",)}, static=dict(D=4), dims=dict(P="H", Q="W", NW="N"))
