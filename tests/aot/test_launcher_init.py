"""Which images init loads on which GPU, and what it leaves behind."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.launcher_build import Launcher, build_library
from tests.aot.launcher_packages import FakeImage, fake_image, kernel, param
from tests.aot.test_launcher_status import BEFORE_FILLS, STATUS
from texpr.aot.ir import (
    Entry,
    IntValue,
    Launch,
    Package,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorPointer,
    Variant,
)
from texpr.aot.launcher import launcher_c
from texpr.aot.launcher_entry import served_capabilities
from texpr.dtypes import DType
from texpr.math.expr import TRUE, const, ge, sym

N = sym("N")
ALL = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90a", "sm_100a", "sm_110a", "sm_120a")


def package_for(*variants: tuple[str, tuple[str, ...], str], guards: tuple[int, ...] = ()) -> Package:
    """Variants (name, targets, kernel) of an entry ``copy``; a number n in ``guards`` makes it want N >= n."""
    arguments = (
        TensorArgument("x", DType.F32, (N,), (1,), output=False),
        TensorArgument("y", DType.F32, (N,), (1,), output=True),
    )
    names = dict.fromkeys(name for _, _, name in variants)
    pointers = param("x", "*fp32", TensorPointer("x")), param("y", "*fp32", TensorPointer("y"))
    conditions = [ge(N, least) if least else TRUE for least in (*guards, *([0] * len(variants)))]
    made = tuple(
        Variant(name, targets, condition, (Launch(used, const(1)),))
        for (name, targets, used), condition in zip(variants, conditions, strict=False)
    )
    entry = Entry("copy", (), (), arguments, ("N",), (), (), made)
    return Package("copy", (entry,), tuple(kernel(name, *pointers) for name in names), "texpr: 1\n", "")


def launcher_for(package: Package, images: tuple[FakeImage, ...], folder: Path) -> Launcher:
    return Launcher(build_library(package, images, folder), package.entries[0], images)


def loaded(launcher: Launcher) -> set[tuple[str, str]]:
    bits = launcher.fake.images_loaded
    return {(image.kernel, image.target) for row, image in enumerate(launcher.images) if bits >> row & 1}


CALL = {"x": 1 << 40, "y": 1 << 41, "N": 5}


@pytest.mark.parametrize(
    ("targets", "served"),
    [
        (("sm_80",), {80: "sm_80", 86: "sm_80", 89: "sm_80"}),
        (("sm_86",), {86: "sm_86", 89: "sm_86"}),
        (("sm_80", "sm_86"), {80: "sm_80", 86: "sm_86", 89: "sm_86"}),
        (("sm_89", "sm_80"), {80: "sm_80", 86: "sm_80", 89: "sm_89"}),
        (("sm_87",), {87: "sm_87"}),
        (("sm_90a", "sm_120a"), {90: "sm_90a", 120: "sm_120a"}),
        (
            ALL,
            {
                80: "sm_80",
                86: "sm_86",
                87: "sm_87",
                89: "sm_89",
                90: "sm_90a",
                100: "sm_100a",
                110: "sm_110a",
                120: "sm_120a",
            },
        ),
    ],
)
def test_gpus_served_by_the_targets_of_a_bundle(targets: tuple[str, ...], served: dict[int, str]) -> None:
    assert served_capabilities(targets) == served


def test_every_gpu_gets_its_images_or_a_status(tmp_path: Path) -> None:
    built = ("sm_80", "sm_86", "sm_87", "sm_90a", "sm_110a")
    package = package_for(("only", built, "copy_kernel"))
    launcher = launcher_for(package, tuple(fake_image("copy_kernel", target) for target in built), tmp_path)
    expected = {80: "sm_80", 86: "sm_86", 87: "sm_87", 89: "sm_86", 90: "sm_90a", 110: "sm_110a"}
    for capability in (70, 75, 80, 86, 87, 88, 89, 90, 100, 101, 103, 110, 111, 120, 121):
        launcher.library.fake_reset()
        launcher.fake.capability = capability
        status = launcher.init()
        if capability in expected:
            assert (status, loaded(launcher)) == (0, {("copy_kernel", expected[capability])})
            assert launcher.launch(CALL) == 0 and launcher.fake.mistakes == 0
        else:
            assert (status, launcher.error.capability) == (STATUS["TEXPR_E_NO_KERNEL_IMAGE"], capability)
            assert launcher.fake.modules == 0


def test_an_entry_without_fills_takes_a_table_without_memsets(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80"),), tmp_path)
    launcher.driver.struct_size = BEFORE_FILLS
    launcher.driver.memset_d8_async = 0xBAD
    assert launcher.init() == 0 and launcher.launch(CALL) == 0 and launcher.fake.mistakes == 0


def test_a_driver_older_than_the_cubins_is_refused_with_both_versions(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80", minimum_driver=13000),), tmp_path)
    assert launcher.init() == 0
    assert launcher.close() == 0
    launcher.fake.driver_version = 12090
    assert launcher.init() == STATUS["TEXPR_E_OLD_DRIVER"]
    assert (launcher.error.needed, launcher.error.other) == (13000, 12090)
    assert launcher.fake.modules == 0 and launcher.launch(CALL) == STATUS["TEXPR_E_NOT_INITIALISED"]


def test_a_table_that_cannot_tell_its_version_is_not_refused(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80", minimum_driver=13000),), tmp_path)
    launcher.fake.driver_version = 12090
    whole = launcher.driver.struct_size
    launcher.driver.struct_size = type(launcher.driver).driver_get_version.offset
    assert launcher.init() == 0, "the slot lies behind the table"
    assert launcher.close() == 0
    launcher.driver.struct_size = whole
    launcher.driver.driver_get_version = None
    assert launcher.init() == 0


def test_only_variants_that_list_the_target_are_chosen_and_only_their_kernels_loaded(tmp_path: Path) -> None:
    package = package_for(
        ("new", ("sm_90a",), "fast"), ("old", ("sm_80",), "slow"), ("both", ("sm_80", "sm_90a"), "slow")
    )
    images = tuple(fake_image(name, target) for name in ("fast", "slow") for target in ("sm_80", "sm_90a"))
    launcher = launcher_for(package, images, tmp_path)
    assert launcher.init() == 0 and loaded(launcher) == {("slow", "sm_80")}
    assert launcher.query(CALL)[1].variant_name == b"old"
    assert launcher.close() == 0
    launcher.fake.capability = 90
    launcher.fake.images_loaded = 0
    assert launcher.init() == 0 and loaded(launcher) == {("fast", "sm_90a"), ("slow", "sm_90a")}
    assert launcher.query(CALL)[1].variant_name == b"new"


def test_a_kernel_too_large_for_an_older_sibling_leaves_the_other_variants(tmp_path: Path) -> None:
    """sm_80 images serve 8.6, but not with 160 KB of shared memory."""
    package = package_for(("large", ("sm_80",), "big"), ("small", ("sm_80",), "tiny"))
    images = (fake_image("big", "sm_80", shared_bytes=160 * 1024), fake_image("tiny", "sm_80"))
    launcher = launcher_for(package, images, tmp_path)
    assert launcher.init() == 0 and launcher.query(CALL)[1].variant_name == b"large"
    assert launcher.launch(CALL) == 0 and launcher.fake.launch[0].shared_bytes == 160 * 1024
    assert launcher.close() == 0
    launcher.fake.capability, launcher.fake.shared_limit, launcher.fake.images_loaded = 86, 99 * 1024, 0
    assert launcher.init() == 0 and loaded(launcher) == {("tiny", "sm_80")}
    assert launcher.query(CALL)[1].variant_name == b"small"


def test_a_gpu_on_which_nothing_fits_has_no_kernel_image(tmp_path: Path) -> None:
    package = package_for(("large", ("sm_80",), "big"))
    launcher = launcher_for(package, (fake_image("big", "sm_80", shared_bytes=160 * 1024),), tmp_path)
    launcher.fake.capability, launcher.fake.shared_limit = 89, 99 * 1024
    assert launcher.init() == STATUS["TEXPR_E_NO_KERNEL_IMAGE"] and launcher.fake.modules == 0


def test_a_gpu_outside_every_guard_is_told_no_variant(tmp_path: Path) -> None:
    package = package_for(("wide", ("sm_80",), "copy_kernel"), guards=(6,))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80"),), tmp_path)
    assert launcher.init() == 0
    assert launcher.launch(CALL) == STATUS["TEXPR_E_NO_VARIANT"]
    assert launcher.launch({**CALL, "N": 6}) == 0


def test_a_context_object_may_be_copied(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80"),), tmp_path)
    assert launcher.init() == 0
    original, launcher.context = launcher.context, type(launcher.context)(*launcher.context)
    ctypes.memset(original, 0xEE, ctypes.sizeof(original))
    assert launcher.launch(CALL) == 0 and launcher.close() == 0


def test_init_writes_nothing_beyond_the_context_object(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80"),), tmp_path)
    words = len(launcher.context)
    room = (ctypes.c_uint64 * (words + 2))(*[7] * (words + 2))
    launcher.context = (ctypes.c_uint64 * words).from_buffer(room, 8)
    assert launcher.init() == launcher.launch(CALL) == launcher.close() == 0
    assert room[0] == room[words + 1] == 7


def test_a_kernel_that_assumes_more_than_its_guard_promises_is_not_launched_on_less(tmp_path: Path) -> None:
    """The mistake of peers: a kernel compiled for 16-byte alignment and multiples of 8, launched without a test."""
    package = package_for(("fast", ("sm_80",), "vector"), ("general", ("sm_80",), "scalar"))
    fast = kernel("vector", param("x", "*fp32", TensorPointer("x"), 16), param("n", "i32", IntValue(N), 8))
    package = replace(package, kernels=(fast, package.kernels[1]))
    launcher = launcher_for(package, (fake_image("vector", "sm_80"), fake_image("scalar", "sm_80")), tmp_path)
    assert launcher.init() == 0
    for call, variant in (({"N": 8}, b"fast"), ({"N": 4}, b"general"), ({"N": 8, "x": (1 << 40) + 8}, b"general")):
        assert launcher.query({**CALL, **call})[1].variant_name == variant


def test_sizes_known_at_build_time_are_not_computed_in_32_bits(tmp_path: Path) -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    entry = package.entries[0]
    shape = (const(65536), const(65536))
    arguments = tuple(replace(tensor, shape=shape, groups=(1, 1)) for tensor in entry.arguments)
    package = replace(package, entries=(replace(entry, arguments=arguments),))
    launcher = launcher_for(package, (fake_image("copy_kernel", "sm_80"),), tmp_path)
    assert launcher.init() == 0
    assert launcher.launch({**CALL, "y": CALL["x"] + 4 * 65536 * 65536 - 4}) == STATUS["TEXPR_E_OVERLAP"]
    assert launcher.launch({**CALL, "y": CALL["x"] + 4 * 65536 * 65536}) == 0


def test_packages_that_cannot_work_are_refused() -> None:
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    image = fake_image("copy_kernel", "sm_80")
    with pytest.raises(ValueError, match="no variant has a cubin"):
        launcher_c(package, [])
    with pytest.raises(ValueError, match="two cubins of the same kernel"):
        launcher_c(package, [image, image])
    with pytest.raises(ValueError, match="no kernel other for target"):
        launcher_c(package, [fake_image("other", "sm_80")])
    with pytest.raises(ValueError, match="no kernel copy_kernel for target sm_75"):
        launcher_c(package, [fake_image("copy_kernel", "sm_75")])
    with pytest.raises(ValueError, match="is no C identifier"):
        launcher_c(replace(package, name="a-b"), [image])
    entry = replace(package.entries[0], dims=("x",))
    with pytest.raises(ValueError, match="same C name x"):
        launcher_c(replace(package, entries=(entry,)), [image])
    entry = replace(package.entries[0], variants=())
    with pytest.raises(ValueError, match="needs a variant"):
        launcher_c(replace(package, entries=(entry,)), [image])


@pytest.mark.parametrize("type_name", ["fp64", "*fp32", "i64"])
def test_a_parameter_whose_type_does_not_fit_is_refused(type_name: str) -> None:
    """The mistake of peers: a float passed as a double, an i32 as an i64."""
    package = package_for(("only", ("sm_80",), "copy_kernel"))
    entry = package.entries[0]
    arguments = (*entry.arguments, ScalarArgument("alpha", DType.F32))
    entry = replace(entry, arguments=arguments)
    value = IntValue(N) if type_name == "i64" else ScalarValue("alpha")
    source = kernel("copy_kernel", param("p", type_name, value))
    with pytest.raises(ValueError, match="the kernel's parameter p has type"):
        launcher_c(replace(package, entries=(entry,), kernels=(source,)), [fake_image("copy_kernel", "sm_80")])
