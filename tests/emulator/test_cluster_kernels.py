"""Compiled kernels whose programs share clusters give NumPy's numbers, and what they lack is found."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.compiled_hopper import Hopper, compile_hopper, run_hopper
from texpr.emulator import Device, Fault, FaultKind

pytest.importorskip("triton")
rng = np.random.default_rng(59)
SEEDS = [None, 1, 2]
ROWS = {2: ((1, 0),), 4: ((1, 0), (2, 0))}
GROUPS = {2: ((0,),), 4: ((0,), (0,))}


def _tiles(ctas: int) -> tuple[tuple[str, str], ...]:
    """Tiles of A and C spread along the rows, B the same for all; 64 x 64 for each program."""
    rows = "/".join(f"{2**bit},0" for bit in range(len(ROWS[ctas])))
    same = "/".join("0,0" for _ in ROWS[ctas])
    return (
        ("a", f"fp16[{64 * ctas},64]@{rows}"), ("b", f"fp16[64,64]@{same}"), ("c", f"fp16[{64 * ctas},64]@{rows}"),
    )  # fmt: skip


def plain(ctas: int = 2, meet: bool = True) -> Hopper:
    constants = (("STAGES", 3), ("WARPS", 4), ("CTAS", ROWS[ctas]), ("MEET", meet))
    signature = (*_tiles(ctas), ("K", "i32"))
    return compile_hopper("multicast_gemm", signature, constants, kernels="cluster_kernels", ctas=ctas)


def specialised(ctas: int = 2, waits: str = "both") -> Hopper:
    constants = (("STAGES", 2), ("WARPS", 4), ("CTAS", ROWS[ctas]), ("GROUP", GROUPS[ctas]), ("WAITS", waits))
    signature = (*_tiles(ctas), ("M", "i32"), ("N", "i32"), ("K", "i32"))
    return compile_hopper("specialised_multicast_gemm", signature, constants, kernels="cluster_kernels", ctas=ctas)


def product(hopper: Hopper, m: int, n: int, k: int, *, seed: int | None = None, grid: tuple[int, ...] = ()) -> None:
    """Runs it and compares; `grid` is given if the kernel takes the sizes and walks over the tiles."""
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((k, n)).astype(np.float16)
    arguments: dict[str, np.ndarray | int] = {"a": a, "b": b, "c": np.empty((m, n), np.float16)}
    arguments |= {"M": m, "N": n, "K": k} if grid else {"K": k}
    rows = 64 * hopper.cluster
    got, _ = run_hopper(hopper, arguments, grid or (-(-m // rows), -(-n // 64)), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed))
    expected = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_allclose(got["c"].astype(np.float32), expected, atol=2e-3 * k**0.5, rtol=2e-3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("ctas", "m", "n", "k"), [(2, 128, 64, 64), (2, 200, 72, 328), (4, 300, 64, 256)])
def test_a_product_whose_programs_share_an_operand(ctas: int, m: int, n: int, k: int, seed: int | None) -> None:
    product(plain(ctas), m, n, k, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("ctas", "m", "n", "k"), [(2, 128, 64, 64), (2, 200, 136, 264), (4, 300, 64, 192)])
def test_a_product_with_roles_whose_programs_share_an_operand(
    ctas: int, m: int, n: int, k: int, seed: int | None
) -> None:
    product(specialised(ctas), m, n, k, seed=seed, grid=(2,))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("parts", [((0, 1),), ((0, 1), (0, 2)), ((1, 0), (0, 1))])
def test_sums_over_the_programs_of_a_cluster(parts: tuple[tuple[int, int], ...], seed: int | None) -> None:
    signature, constants = (("source", "*fp32"), ("target", "*fp32")), (("ROWS", 16), ("COLUMNS", 128), ("CTAS", parts))
    kernel = compile_hopper("spread_sums", signature, constants, kernels="cluster_kernels", ctas=2 ** len(parts))
    x = rng.standard_normal((48, 128)).astype(np.float32)
    got, _ = run_hopper(kernel, {"source": x, "target": np.empty(48, np.float32)}, (3,), outputs=("target",),
                        device=Device(sm=90, seed=seed))
    np.testing.assert_allclose(got["target"], x.sum(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("each", [1, 4])
def test_asynchronous_stores_to_programs_of_a_cluster(each: int, seed: int | None) -> None:
    from triton.experimental.gluon import language as gl

    signature = (("source", "*fp32"), ("target", "*fp32"))
    layouts = (("FROM", gl.BlockedLayout([each], [32], [4], [0], cga_layout=[[1]])),
               ("TO", gl.BlockedLayout([1], [32], [4], [0], cga_layout=[[1]])),
               ("SHARED", gl.SwizzledSharedLayout(1, 1, 1, [0], cga_layout=[[1]])))  # fmt: skip
    kernel = compile_hopper("pushed", signature, (("N", 1024), *layouts), kernels="cluster_kernels", ctas=2,
                            divisible=("source", "target"))
    assert "st.async" in kernel.compiled.ptx
    x = rng.standard_normal((3, 1024)).astype(np.float32)
    got, _ = run_hopper(kernel, {"source": x, "target": np.empty_like(x)}, (3,), outputs=("target",),
                        device=Device(sm=90, seed=seed))
    np.testing.assert_array_equal(got["target"], x + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slot_must_be_free_in_every_program(seed: int | None) -> None:
    with pytest.raises(Fault) as caught:
        product(plain(meet=False), 128, 64, 320, seed=seed)
    assert caught.value.kind in (FaultKind.RACE, FaultKind.ASYNC_NOT_WAITED)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("waits", ["own", "shared"])
def test_both_barriers_of_a_slot_are_needed(waits: str, seed: int | None) -> None:
    """With that of each program alone, the leader writes to the other program too early; with the leader's alone, the
    other program does not wait for its own operand."""
    with pytest.raises(Fault) as caught:
        product(specialised(waits=waits), 128, 64, 512, seed=seed, grid=(1,))
    assert caught.value.kind in (FaultKind.RACE, FaultKind.ASYNC_NOT_WAITED, FaultKind.BARRIER_MISUSE)
