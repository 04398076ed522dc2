"""What is compiled once is not compiled again, unless something it depends on differs or the stored copy is damaged."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.gluon_samples import COPY_TEXT, copy_kernel
from texpr.aot import pool
from texpr.aot.cache import Cache, CacheStatistics, cache_key, default_cache_folder
from texpr.aot.cubin import CompiledKernel, CompileOptions, Progress, compile_kernels
from texpr.aot.ir import KernelSource, Origin


def build(kernel: KernelSource, cache: Cache) -> tuple[CompiledKernel, bool]:
    """The result, and whether it came from the cache."""
    seen: list[Progress] = []
    (result,) = compile_kernels([kernel], options=CompileOptions(cache=cache), report=seen.append)
    return result, seen[0].cached


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entries(cache: Cache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_second_build_starts_no_process(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    first, cached = build(copy_kernel(), cache)
    assert not cached

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a compiler process was started")

    monkeypatch.setattr(pool.subprocess, "Popen", refuse)
    moved = replace(copy_kernel(), origins=((1, Origin("other", "elsewhere.yaml:99")),))
    second, cached = build(moved, cache)
    assert cached
    assert second == first


def test_damaged_entry_is_compiled_again(cache: Cache) -> None:
    pytest.importorskip("triton")
    first, _ = build(copy_kernel(), cache)
    (path,) = entries(cache)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    again, cached = build(copy_kernel(), cache)
    assert not cached
    assert again == first
    path.write_bytes(data[: len(data) // 2])
    again, cached = build(copy_kernel(), cache)
    assert not cached
    assert again == first


def test_everything_the_compiler_sees_is_in_the_key(cache: Cache) -> None:
    pytest.importorskip("triton")
    base = copy_kernel()
    build(base, cache)
    x, y, n = base.params
    for changed in (
        replace(base, text=COPY_TEXT.replace("1024", "512")),
        replace(base, preamble=(base.preamble[0].replace("[4]", "[2]", 1),)),
        replace(base, params=(x, y, replace(n, divisibility=8))),
        replace(base, params=(replace(x, type="*i32"), replace(y, type="*i32"), n)),
        replace(base, warps=8, preamble=(base.preamble[0].replace("[32], [4]", "[32], [8]"),)),
        replace(base, targets=("sm_86",)),
    ):
        _, cached = build(changed, cache)
        assert not cached, changed


def test_equal_kernels_of_one_build_are_compiled_once(cache: Cache) -> None:
    pytest.importorskip("triton")
    seen: list[Progress] = []
    compile_kernels([copy_kernel("sm_80", "sm_80")], options=CompileOptions(cache=cache), report=seen.append)
    assert len(entries(cache)) == 1
    assert [progress.done for progress in seen] == [1, 2]


def test_value_survives_and_nothing_half_written_is_read(cache: Cache) -> None:
    key = cache_key("a")
    assert cache.get(key) is None
    cache.put(key, b"value")
    assert cache.get(key) == b"value"
    (path,) = entries(cache)
    for size in range(path.stat().st_size):
        path.write_bytes(path.read_bytes()[:size])
        assert cache.get(key) is None


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    cache.put(cache_key("a"), b"value")
    assert cache.get(cache_key("a")) is None


def test_clear_can_spare_what_was_used_lately(cache: Cache) -> None:
    for name in "ab":
        cache.put(cache_key(name), b"value")
    assert cache.statistics().entries == 2
    old = next(path for path in entries(cache) if path.name == cache_key("a"))
    long_ago = time.time() - 10 * 86400
    os.utime(old, (long_ago, long_ago))
    assert cache.clear(unused_days=5).entries == 1
    assert cache.get(cache_key("b")) == b"value"
    assert cache.clear().entries == 1
    assert cache.statistics() == CacheStatistics(0, 0)


def test_keys_of_different_parts_differ() -> None:
    assert len({cache_key(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("c", "ab"))}) == 5


def test_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEXPR_CACHE_DIR", str(tmp_path / "mine"))
    assert default_cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("TEXPR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "texpr"
