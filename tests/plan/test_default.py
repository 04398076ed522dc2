"""The default schedule: it exists for every algorithm, covers every call, and meets its floor."""

from __future__ import annotations

import functools
import math

import pytest

from kernels import convolution, linear, movement, rows, stencil
from tests.errors.plan import algorithms as mistakes
from tests.lang import examples
from tests.plan import shapes
from texpr.instructions import mma_form
from texpr.lang.algorithm import AlgorithmDef
from texpr.math.coverage import uncovered, unreachable
from texpr.math.expr import FALSE, TRUE, And, Not, Or, TypeIn, conjunction, disjunction, negation
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.attach import node_loops
from texpr.plan.build import plan_variant
from texpr.plan.checks import nodes_of
from texpr.plan.default import default_schedule
from texpr.plan.errors import NotLowered
from texpr.plan.hidden import sites, tile_sizes
from texpr.plan.inline import axes_of
from texpr.plan.ir import Reduction, Stage, Unit
from texpr.plan.resolve import variant_facts
from texpr.schedule import dump_schedule, load_schedule
from texpr.schedule.records import Variant
from texpr.schedule.words import Copy
from texpr.targets import TARGETS

CHOSEN = ("sm_80", "sm_120a")

ALGORITHMS = {
    f"{module.__name__.rpartition('.')[2]}.{value.name}": value
    for module in (examples, shapes, convolution, linear, movement, rows, stencil)
    for value in vars(module).values()
    if isinstance(value, AlgorithmDef)
}


@functools.cache
def schedule_of(name):
    definition = ALGORITHMS[name]
    return default_schedule(definition, CHOSEN, statics(definition))


def statics(definition):
    return shapes.STATICS.get(definition.name, {})


def bindings(name):
    definition = ALGORITHMS[name]
    return [definition.bind(types, statics(definition)) for types in definition.bindings()]


def usable(name, algorithm, target):
    """The variants for one binding on one target, types decided."""
    types = dict(algorithm.types)
    found = []
    for variant in schedule_of(name).variants:
        guard = decided(variant.when, {key: str(dtype) for key, dtype in types.items()})
        wanted = all(types[key] is dtype for key, dtype in variant.types.items())
        if target in variant.target and wanted and guard is not FALSE:
            found.append((variant, guard))
    return found


def decided(guard, types):
    match guard:
        case TypeIn(variable=variable, names=names):
            return TRUE if types[variable] in names else FALSE
        case And(args=args):
            return conjunction(*(decided(arg, types) for arg in args))
        case Or(args=args):
            return disjunction(*(decided(arg, types) for arg in args))
        case Not(arg=arg):
            return negation(decided(arg, types))
        case _:
            return guard


def plans(name, algorithm, target):
    for variant, guard in usable(name, algorithm, target):
        record = Variant(
            name=variant.name, target=variant.target, when=guard, kernels=variant.kernels, location=variant.location
        )
        yield record, plan_variant(algorithm, record, TARGETS[target])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_variant_plans_for_every_binding(name):
    for algorithm in bindings(name):
        for target in CHOSEN:
            assert list(plans(name, algorithm, target))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_call_has_a_variant_and_every_variant_a_call(name):
    for algorithm in bindings(name):
        facts = variant_facts(algorithm, Variant(name="", target=()), TARGETS["sm_80"])
        for target in CHOSEN:
            guards = [guard for _, guard in usable(name, algorithm, target)]
            assert uncovered(guards, facts) is None
            assert unreachable(guards, facts) == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_schedule_reads_back_from_its_yaml(name):
    schedule = schedule_of(name)
    assert load_schedule(dump_schedule(schedule), "default.yaml") == schedule


@pytest.mark.parametrize("name", ["shapes.lstm_step", "linear.matmul_f8", "rows.layernorm", "shapes.double"])
def test_the_schedule_is_the_same_every_time(name):
    definition = ALGORITHMS[name]
    assert dump_schedule(default_schedule(definition, CHOSEN, statics(definition))) == dump_schedule(schedule_of(name))


def test_what_no_schedule_can_do_yet_is_refused_as_the_plan_refuses_it():
    with pytest.raises(NotLowered, match="does not commute"):
        default_schedule(mistakes.recurrence, CHOSEN)


def test_rows_that_may_be_too_long_to_sort_are_refused_with_what_would_do():
    with pytest.raises(NotLowered, match="sorts along j, where rows may have more than 256 keys") as caught:
        default_schedule(mistakes.sorted_rows, CHOSEN)
    assert caught.value.hint.startswith("require: N <= 256, at most 32 ranks, or a sort in passes")


# ---- the floor ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "examples.linear_gelu", "examples.conv2d", "examples.dequantised_linear", "linear.matmul_nn",
        "linear.matmul_nt", "linear.matmul_tn", "linear.batched_matmul", "linear.w8a16_linear",
        "linear.matmul_tf32", "linear.matmul_i8",
        "shapes.mlp", "shapes.gram", "shapes.lstm_step", "shapes.normalised_product", "shapes.quantised_rows",
    ],
)  # fmt: skip
def test_a_contraction_runs_on_the_matrix_unit_wherever_one_fits(name):
    algorithm = bindings(name)[0]
    for _, plan in plans(name, algorithm, "sm_80"):
        reductions = [n for kernel in plan.kernels for n in nodes_of(kernel.body) if isinstance(n, Reduction)]
        units = [node.dot.unit for node in reductions if node.dot is not None]
        assert units and set(units) == {Unit.MMA}


def test_an_8_bit_float_product_uses_the_instruction_where_the_target_has_it():
    (f8, _) = bindings("linear.matmul_f8")
    assert mma_form(f8.inputs[0].dtype, f8.inputs[1].dtype, TARGETS["sm_120a"]) is not None
    for target, unit in (("sm_80", Unit.FMA), ("sm_120a", Unit.MMA)):
        for _, plan in plans("linear.matmul_f8", f8, target):
            (dot,) = [n.dot for n in nodes_of(plan.kernels[0].body) if isinstance(n, Reduction)]
            assert dot.unit is unit


@pytest.mark.parametrize(
    "name",
    ["movement.copy", "movement.transpose", "movement.gather_rows", "rows.softmax", "rows.layernorm", "rows.sum_rows",
     "convolution.depthwise_conv2d", "linear.linear_gelu", "linear.matmul_f64", "shapes.double", "shapes.sum_all",
     "shapes.both_ways", "shapes.batch_norm"],
)  # fmt: skip
def test_aligned_variants_access_16_bytes_at_a_time(name):
    """Every large access of every variant but the last."""
    for algorithm in bindings(name):
        planned = list(plans(name, algorithm, "sm_80"))
        assert len(planned) > 1
        for record, plan in planned[:-1]:
            facts = variant_facts(algorithm, record, TARGETS["sm_80"])
            for kernel in plan.kernels:
                assert narrow(kernel, record.when, facts) == []


def narrow(kernel, guard, facts):
    """The names of large arguments that are accessed in less than 16 bytes a thread."""
    found = []
    for site in sites(kernel):
        memory = memory_of(site.read.source, guard)
        sizes = {**tile_sizes(kernel), **{loop.axis: loop.size for loop in site.loops}}
        lanes = sorted((a for a in axes_of(site.read) if sizes.get(a, 1) > 1), key=lambda a: a.name)
        fast = fastest_axis(memory, site.read, lanes)
        if fast is None or math.prod(sizes[axis] for axis in lanes) < 512 or memory.alignment >= 256:
            continue
        vector = vector_of(memory, site.read.indices, site.read.boundary.mode, fast, sizes[fast], facts)
        if vector.elements * memory.dtype.bytes < 16:
            found.append((memory.name, vector))
    return found


def test_a_short_row_is_read_once_and_held_by_its_program():
    algorithm = bindings("rows.softmax")[0]
    (record, plan), *_ = plans("rows.softmax", algorithm, "sm_80")
    assert record.name == "rows_1024_f16_bf16"
    (kernel,) = plan.kernels
    assert isinstance(kernel.body[0], Stage)
    assert [site.read.source.name for site in sites(kernel) if not site.store] == ["x"]


def test_operands_are_pipelined_where_the_copies_can_be_asynchronous():
    algorithm = bindings("linear.linear_gelu")[0]
    (_, aligned), (_, general) = plans("linear.linear_gelu", algorithm, "sm_80")
    for plan, copy in ((aligned, Copy.ASYNC), (general, Copy.SYNC)):
        stages = [node for node in nodes_of(plan.kernels[0].body) if isinstance(node, Stage)]
        assert {stage.name: stage.copy for stage in stages} == {"w": copy, "x": copy}


def test_the_pipeline_shrinks_until_it_fits_the_shared_memory():
    """Four stages of 128 x 128 x 64-byte tiles are 64 KB for 16-bit operands but 128 KB for 32-bit ones read in 64s."""
    for target in TARGETS:
        schedule = default_schedule(ALGORITHMS["linear.matmul_tf32"], [target])
        for variant in schedule.variants:
            plan_variant(bindings("linear.matmul_tf32")[0], variant, TARGETS[target])


# ---- what goes to which kernel -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("rows.layernorm", [["mu", "rs", "y"]]),
        ("shapes.mlp", [["h"], ["y"]]),
        ("shapes.lstm_step", [["z"], ["cn", "hn"]]),
        ("shapes.both_ways", [["y"], ["z"]]),
        ("shapes.layernorm_backward", [["dx"], ["dg.part", "db.part"], ["dg", "db"]]),
        ("shapes.moments", [["mean.r1.part"], ["mean"], ["var.r1.part"], ["var"]]),
        ("shapes.sum_all", [["y.part"], ["y"]]),
        ("shapes.sum_columns", [["y.part"], ["y"]]),
        ("shapes.block_scaled", [["y"]]),
        ("shapes.difference_of_rows", [["s"], ["y"]]),
        ("stencil.blur", [["y"]]),
        ("rows.rmsnorm_residual", [["z"], ["y"]]),
        ("examples.cross_entropy", [["m", "total", "loss"], ["dx"]]),
    ],
)
def test_kernels_of_the_general_variant(name, kernels):
    assert [list(kernel.writes) for kernel in schedule_of(name).variants[-1].kernels] == kernels


def test_a_whole_row_lets_an_output_be_read_again():
    first = schedule_of("rows.rmsnorm_residual").variants[0]
    assert [list(kernel.writes) for kernel in first.kernels] == [["z", "y"]]


def test_an_overwritten_argument_is_read_by_no_later_kernel():
    """dx may be stored over x, so whoever needs all of x comes first."""
    for variant in schedule_of("examples.cross_entropy").variants:
        assert [list(kernel.writes) for kernel in variant.kernels][-1] == ["dx"]


def test_pieces_of_a_reduction_are_bounded():
    for name in ("shapes.sum_all", "shapes.sum_columns", "shapes.batch_norm", "shapes.argmax_all"):
        for variant in schedule_of(name).variants:
            for kernel in variant.kernels:
                if kernel.split_reduction is not None:
                    assert kernel.split_reduction.parts.max <= 256


def test_a_nested_reduction_loops_inside_its_reader():
    algorithm = bindings("shapes.block_scaled")[0]
    for _, plan in plans("shapes.block_scaled", algorithm, "sm_120a"):
        (outer,) = [node for node in plan.kernels[0].body if isinstance(node, Reduction)]
        assert [loop.axis.name for loop in node_loops(outer)] == ["kg"]
        assert [node.funcs[0].name for node in outer.body if isinstance(node, Reduction)] == ["block"]
