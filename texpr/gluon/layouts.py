"""Layouts in Gluon's spelling, slices of them, and how a value gains the dims it lacks.

A value on the dims ``S`` of a space lives in the space's layout with the other dims sliced away, highest first. That
order is what the front end needs to add the lowest missing dim back with ``[None, ...]``: it accepts ``expand_dims``
only at the dim that the outermost ``SliceLayout`` removed.
"""

from __future__ import annotations

from collections.abc import Sequence

from texpr.tile.declarations import Dims
from texpr.tile.layouts import Bases, Blocked, Layout, Linear, MmaV2, MmaV3, Nvmma, Operand, SharedLayout, Swizzled


def layout_text(layout: Layout, parents: dict[Layout, str]) -> str:
    """A layout's constructor; ``parents`` names layouts that already have an identifier."""
    match layout:
        case Blocked(each=each, lanes=lanes, warps=warps, order=order, ctas=ctas):
            return f"gl.BlockedLayout({_list(each)}, {_list(lanes)}, {_list(warps)}, {_list(order)}{_parts(ctas)})"
        case MmaV2(warps=warps, instruction=instruction, ctas=ctas):
            return f"gl.NVMMADistributedLayout([2, 0], {_list(warps)}, {_list(instruction)}{_parts(ctas)})"
        case MmaV3(warps=warps, instruction=instruction, ctas=ctas):
            return f"gl.NVMMADistributedLayout([3, 0], {_list(warps)}, {_list(instruction)}{_parts(ctas)})"
        case Operand(index=index, parent=parent, k_width=k_width):
            inner = parents.get(parent) or layout_text(parent, parents)
            return f"gl.DotOperandLayout({index}, {inner}, {k_width})"
        case Linear(registers=registers, lanes=lane_bases, warps=warp_bases, shape=shape):
            parts = [
                f"reg_bases={_bases(registers)}",
                f"lane_bases={_bases(lane_bases)}",
                f"warp_bases={_bases(warp_bases)}",
                "block_bases=[]",
                f"shape={_list(shape)}",
            ]
            return "gl.DistributedLinearLayout(\n        " + ",\n        ".join(parts) + ",\n    )"


def shared_layout_text(layout: SharedLayout) -> str:
    match layout:
        case Swizzled(vec=vec, per_phase=per_phase, max_phase=max_phase, order=order, ctas=ctas):
            return f"gl.SwizzledSharedLayout({vec}, {per_phase}, {max_phase}, {_list(order)}{_parts(ctas)})"
        case Nvmma(swizzle_bytes=swizzle, element_bits=bits, transposed=transposed, rank=rank, ctas=ctas):
            turned = ", transposed=True" if transposed else ""
            return f"gl.NVMMASharedLayout({swizzle}, {bits}, {rank}{turned}{_parts(ctas)})"


def barrier_layout_text(across: Sequence[int], programs: int) -> tuple[int, str]:
    """How many barriers there are for a slot, and which one each program of a cluster uses: those whose numbers differ
    in the bits ``across`` only use the same, that of the first of them."""
    bases, count = [], 1
    for bit in range(programs.bit_length() - 1):
        bases.append([0 if bit in across else count])
        count *= 1 if bit in across else 2
    return count, f"mbarrier.MBarrierLayout({bases})"


def tensor_map_layout_text(layout: Nvmma) -> str:
    """The layout of a tensor map's box as its type in a signature has it."""
    parts = f",False,{_bases(layout.ctas)}" if layout.ctas else ""
    return f"NVMMASharedLayout({layout.swizzle_bytes},{layout.element_bits},{layout.rank},{layout.transposed}{parts})"


def sliced(layout: str, rank: int, dims: Dims) -> str:
    """The layout of a value on ``dims`` of a space of ``rank`` dims whose layout is called ``layout``."""
    for dim in missing(rank, dims):
        layout = f"gl.SliceLayout({dim}, {layout})"
    return layout


def missing(rank: int, dims: Dims) -> list[int]:
    """The dims sliced away, in the order of slicing."""
    return [dim for dim in reversed(range(rank)) if dim not in dims]


def expand_index(dims: Dims, target: Dims) -> str:
    """The subscript that gives a value on ``dims`` the rank of ``target``: ``[:, None]``."""
    return "[" + ", ".join(":" if dim in dims else "None" for dim in target) + "]"


def expands_directly(rank: int, dims: Dims, target: Dims) -> bool:
    """Whether ``dims`` grows to ``target`` by subscripts alone: the dims to add were the last to be sliced away."""
    added = [dim for dim in target if dim not in dims]
    return missing(rank, dims)[::-1][: len(added)] == sorted(added)


def sliced_from(layout: str, rank: int, dims: Dims, target: Dims) -> str:
    """A layout trivially equal to that of a value on ``dims`` from which subscripts lead to ``target``."""
    inner = sliced(layout, rank, target)
    for position in reversed(range(len(target))):
        if target[position] not in dims:
            inner = f"gl.SliceLayout({position}, {inner})"
    return inner


def is_canonical_after_reduce(rank: int, dims: Dims, dim: int) -> bool:
    """Whether reducing ``dim`` of a value on ``dims`` leaves it in the layout that :func:`sliced` names."""
    return all(other > dim for other in missing(rank, dims))


def _parts(ctas: Bases) -> str:
    return f", cga_layout={_bases(ctas)}" if ctas else ""


def _list(values: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, values)) + "]"


def _bases(bases: Sequence[Sequence[int]]) -> str:
    return "[" + ", ".join(_list(basis) for basis in bases) + "]"
