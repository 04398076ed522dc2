"""A schedule with its defaults written out is one that the compiler takes again."""

from __future__ import annotations

from tests.integration.test_boxes import stages, variants
from tests.integration.test_gathering import PLAIN, picked, roles
from texpr.plan.build import plan_variant
from texpr.plan.resolved import DEFAULT_WARPS, resolved_schedule
from texpr.schedule import dump_schedule, load_schedule
from texpr.targets import TARGETS


def test_warps_are_written_out_unless_roles_have_their_own() -> None:
    entry = stages("y.k", x="copy: async, depth: 3", w="copy: tma, depth: 3")
    text = variants("picked", "sm_90a", f"{PLAIN}, stage: {{{entry}}}, {roles(2, 'stage.x, stage.w')}", PLAIN, "x, w")
    algorithm = picked.bind({})
    written = load_schedule(dump_schedule(resolved_schedule(load_schedule(text), lambda _: algorithm)))
    assert [variant.kernels[0].warps for variant in written.variants] == [None, DEFAULT_WARPS]
    for variant in written.variants:
        plan_variant(algorithm, variant, TARGETS["sm_90a"])
