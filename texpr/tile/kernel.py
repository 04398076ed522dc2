"""What one kernel shares while it is lowered, and the block of statements under construction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from texpr.lang.ir import Axis, Expr, Func, Monoid, ReduceOp
from texpr.math.expr import IntExpr, const, sym
from texpr.plan.checks import nodes_of
from texpr.plan.inline import reads_of
from texpr.plan.ir import AxisTile, Dot, KernelPlan, Node, Reduction, RolePlan, Stage
from texpr.tile.consumers import Instance
from texpr.tile.declarations import Barriers, Buffer, Conflict, PhysicalDim, Space, TensorMapParam
from texpr.tile.evaluate import Needs
from texpr.tile.ir import Assign, Literal, Statement, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.layouts import Layout
from texpr.tile.protocol import Advance, Arrive, StoreTensor, WaitBarrier
from texpr.tile.scope import Scope
from texpr.tile.share import Share
from texpr.tile.spaces import Grouping, accumulator_space, blocked_space


@dataclass(slots=True)
class Block:
    """Statements under construction."""

    statements: list[Statement] = field(default_factory=list)

    def add(self, *statements: Statement) -> None:
        self.statements.extend(statements)


@dataclass(frozen=True, slots=True)
class ThroughTiles:
    """A reduction with its accumulators, one per component, over ``space``; ``starts`` is what they begin with."""

    node: Reduction
    op: ReduceOp | Monoid
    space: Space | None
    accumulators: tuple[Var, ...]
    starts: tuple[Literal, ...]


@dataclass(slots=True)
class Kernel:
    """What the whole kernel shares while it is lowered: the plan, its spaces, its buffers and what it needs from the
    launcher. ``staged``: the buffer of every stage, and ``owned``: of every window and output of the role, by the
    identity of the node; ``privates``: the buffer of each func of which the program keeps a copy of its own;
    ``spaces``: those in use; ``through``: what goes on from tile to tile. ``rings``: the barriers of each ring of
    stages, and how many of its steps are done, by the identity of its first stage; ``carried``: names of integers that
    start at zero and that the whole kernel counts up; ``maps``: tensor maps by what they say. ``instance``: the role
    that this is lowered for, None without roles; ``taken``: what must happen where the stages that other roles have
    fetched for this level of the nest have been read. ``turn``: the barriers by which instances take turns, if they do,
    and the count of turns; ``passing``: only the count of steps is lowered, of a tile that another instance computes.
    ``meetings``: the barrier at which instances wait for each other, if they do, and the count of its phases.
    ``boxed``: the stores by the copy engine; ``stored``: the count of those of each output, where its slots do not
    begin anew in every tile. ``share``: the steps of the tile that are the program's, if not all are."""

    plan: KernelPlan
    grouping: Grouping
    sizes: Mapping[Axis, int]
    needs: Needs
    buffers: list[Buffer] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    staged: dict[int, Buffer] = field(default_factory=dict)
    owned: dict[int, Buffer] = field(default_factory=dict)
    privates: dict[Func, str] = field(default_factory=dict)
    spaces: dict[tuple[tuple[PhysicalDim, ...], Layout], Space] = field(default_factory=dict)
    through: list[ThroughTiles] = field(default_factory=list)
    barriers: list[Barriers] = field(default_factory=list)
    rings: dict[int, tuple[str, str, IntExpr, tuple[str, ...]]] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    maps: dict[Hashable, TensorMapParam] = field(default_factory=dict)
    instance: Instance | None = None
    taken: list[Statement] = field(default_factory=list)
    turn: list[str] = field(default_factory=list)
    passing: bool = False
    meetings: list[tuple[str, str]] = field(default_factory=list)
    stored: dict[Func, str] = field(default_factory=dict)
    boxed: list[StoreTensor] = field(default_factory=list)
    share: Share | None = None

    @property
    def role(self) -> RolePlan | None:
        """The role that this is lowered for."""
        return None if self.instance is None else self.instance.role

    def name(self, wanted: str) -> str:
        """``wanted``, or with a number if it is taken."""
        wanted = wanted.replace(".", "_").replace("'", "_")
        candidate, n = wanted, 1
        while candidate in self.names:
            n += 1
            candidate = f"{wanted}_{n}"
        self.names.add(candidate)
        return candidate

    def accumulator(self, dot: Dot, sizes: Mapping[Axis, int], func: Func) -> Space:
        """The space of the accumulator of ``func``; accumulators of one layout share it, and so what they multiply."""
        space = accumulator_space(self.plan, self.grouping, dot, sizes, func)
        return self.spaces.setdefault((space.dims, space.layout), space)

    def fetches(self, stage: Stage) -> bool:
        """Whether the role that this is lowered for fetches a stage, or passes by it."""
        owner = self.plan.role_of(stage)
        if self.passing:
            return owner is not None
        return owner is None if self.role is None or self.role.default else owner is self.role

    def release(self, since: int, block: Block) -> None:
        """Give back the slots of the stages that were taken since then."""
        block.add(*self.taken[since:])
        del self.taken[since:]

    def buffer(self, buffer: Buffer) -> str:
        self.buffers.append(buffer)
        return buffer.name


def meet(kernel: Kernel, block: Block) -> None:
    """All instances that read the same tiles come here before one of them goes on."""
    if kernel.role is None or kernel.role.readers == 1:
        return
    if not kernel.meetings:
        met, count = kernel.name("met"), kernel.name("meetings")
        kernel.meetings.append((met, count))
        kernel.barriers.append(Barriers(met, 1, kernel.role.readers, "instances wait for each other"))
        kernel.carried.append(count)
    ((met, count),) = kernel.meetings
    block.add(
        Arrive(met, const(0)),
        WaitBarrier(met, const(0), sym(count) % 2, "all instances see the same tile"),
        Advance(count, const(1)),
    )


def stage_dims(form: AxisTile, kernel: Kernel) -> tuple[PhysicalDim, ...]:
    """The dims of a staged tile: the kernel's groups, the group that is contiguous in the tensor last."""
    sizes = dict(form.axes)
    dims = kernel.grouping.dims(sizes)
    last = form.axes[-1][0].name
    return tuple(sorted(dims, key=lambda dim: dim.has(last)))


def _accumulator_of(source: object, node: Node, kernel: Kernel) -> Space | None:
    """The space in which a node will hold ``source``, if it is a contraction with one accumulator for it."""
    if not isinstance(node, Reduction) or node.dot is None or node.dot.piece or source is not node.funcs[0]:
        return None
    return kernel.accumulator(node.dot, kernel.sizes, node.funcs[0])


LowerNodes = Callable[[Sequence[Node], Kernel, Scope, Block], Scope]
"""Lower nodes in order into a block; the resulting scope knows what they left behind."""


def origin(node: str, schedule: str) -> str:
    """The origin of a statement as the emitter reads it: the loop-nest node, and the schedule line that asked for it.
    """
    return f"{node} @ {schedule}" if schedule else node


def assign(name: str, value: TileExpr, kernel: Kernel, block: Block, origin_line: str = "") -> Var:
    """Give a value a name."""
    unique = kernel.name(name)
    block.add(Assign(unique, value, note="", origin=origin(name, origin_line)))
    return Var(unique, value.dtype, value.space, value.dims)


def space_for(
    exprs: Sequence[Expr],
    sizes: Mapping[Axis, int],
    kernel: Kernel,
    scope: Scope,
    *,
    whole: bool = False,
    coming: Sequence[Node] = (),
) -> Space | None:
    """Where to evaluate expressions over axes of these sizes: in the space of a value they read that varies along all
    of them, so that the value need not move; else in the kernel's blocked space. ``whole``: the space must have no
    other dims. Values that ``coming`` nodes hold only later count as well, since an accumulator outlives them."""
    wanted = {axis.name for axis, size in sizes.items() if size > 1}
    for expr in exprs:
        for read in reads_of(expr):
            value = scope.held(read)
            if (
                value is not None
                and value.space is not None
                and not (whole and len(value.dims) < len(value.space.dims))
            ):
                have = {name: size for d in value.dims for name, size in value.space.dims[d].axes}
                if set(have) == wanted and all(have[a.name] == n for a, n in sizes.items() if n > 1):
                    return value.space
            for node in nodes_of(coming):
                space = _accumulator_of(read.source, node, kernel)
                if space is not None and {pair for dim in space.dims for pair in dim.axes} == {
                    (axis.name, size) for axis, size in sizes.items() if size > 1
                }:
                    return space
    return blocked_space(kernel.plan, kernel.grouping, sizes)


def assign_together(targets: Sequence[Var], values: Sequence[TileExpr], kernel: Kernel, block: Block) -> None:
    """Assign every component of a tuple; each value sees the components as they were before."""
    renewed = []
    for target, value in zip(targets[:-1], values[:-1], strict=True):
        name = kernel.name(f"{target.name}_next")
        block.add(Assign(name, value))
        renewed.append(Var(name, value.dtype, value.space, value.dims))
    for target, new in zip((targets[-1], *targets[:-1]), (values[-1], *renewed), strict=True):
        block.add(Assign(target.name, new))
