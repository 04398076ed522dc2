"""The header and the launcher as text: every language mode, no state, no surprises when two bundles meet in one
program.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.launcher_build import HERE, WARNINGS, run, write_sources
from tests.aot.launcher_packages import linear, odd
from texpr.aot.c_names import byte_rows, c_name, comment, comment_block, string_literal, wrapped
from texpr.aot.header import header_h
from texpr.aot.launcher import launcher_c

MODES = ("c89", "c99", "c11", "c17", "c2x", "c++98", "c++11", "c++17", "c++20", "c++2b")


def compilers(mode: str) -> list[list[str]]:
    """gcc and, where it is installed, clang."""
    names = ["g++", "clang++"] if mode.startswith("c++") else ["gcc", "clang"]
    language = ["-x", "c++"] if mode.startswith("c++") else []
    return [[name, *language, f"-std={mode}"] for name in names if shutil.which(name)]


@pytest.mark.parametrize("mode", MODES)
def test_every_language_mode_compiles_without_warnings(mode: str, tmp_path: Path) -> None:
    thorough = mode in ("c89", "c++98")  # some warnings come from the optimiser only
    for make in (linear, odd):
        source = write_sources(*make(), tmp_path)
        for compiler in compilers(mode):
            run([*compiler, *WARNINGS, *(["-O2", "-o", "/dev/null", "-c"] if thorough else ["-fsyntax-only"]), source])


@pytest.mark.parametrize("mode", ["c89", "c++98"])
def test_the_headers_stand_alone(mode: str, tmp_path: Path) -> None:
    write_sources(*linear(), tmp_path)
    write_sources(*odd(), tmp_path)
    user = tmp_path / "user.c"
    user.write_text('#include "odd.h"\n#include "linear.h"\n#include "odd.h"\n')
    for compiler in compilers(mode):
        run([*compiler, *WARNINGS, "-fsyntax-only", user])


def test_two_bundles_and_two_languages_link_into_one_program(tmp_path: Path) -> None:
    first, second = write_sources(*linear(), tmp_path), write_sources(*odd(), tmp_path)
    main = tmp_path / "main.cpp"
    main.write_text(
        '#include "linear.h"\n#include "odd.h"\n'
        "int main() { return linear_f16_close(0, 0) == TEXPR_E_NULL && odd_close(0, 0) == TEXPR_E_NULL ? 0 : 1; }\n"
    )
    objects = [tmp_path / "first.o", tmp_path / "second.o"]
    run(["gcc", "-c", first, "-o", objects[0]])
    run(["gcc", "-c", second, "-o", objects[1]])
    run(["g++", main, *objects, "-o", tmp_path / "main", "-ldl"])
    run([tmp_path / "main"])


def test_no_state_and_no_calls_but_copying_and_opening_the_driver(tmp_path: Path) -> None:
    source = write_sources(*linear(), tmp_path)
    run(["gcc", "-O2", "-fvisibility=hidden", "-fPIC", "-c", source, "-o", tmp_path / "linear.o"])
    symbols = [line.split()[-2:] for line in run(["nm", tmp_path / "linear.o"]).stdout.splitlines()]
    assert not [name for kind, name in symbols if kind in "BbDCGgSs"], "writable globals"
    undefined = {name for kind, name in symbols if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    assert undefined <= {"memcpy", "memset", "dlopen", "dlsym", "dlclose"}
    exported = {name for kind, name in symbols if kind == "T"}
    calls = {f"linear_{name}_{call}" for name in ("f16", "bf16") for call in ("init", "query", "launch", "close")}
    assert exported == calls | {"linear_driver_open", "linear_status_string", "linear_architectures"}


def test_hosts_without_dlopen_fill_the_table_themselves(tmp_path: Path) -> None:
    source = write_sources(*linear(), tmp_path)
    run(["gcc", *WARNINGS, "-DTEXPR_NO_DLOPEN", "-c", source, "-o", tmp_path / "linear.o"])
    assert "dlopen" not in run(["nm", tmp_path / "linear.o"]).stdout


def test_equal_packages_give_equal_text() -> None:
    package, images = linear()
    again, shuffled = linear()[0], images[::-1]
    assert launcher_c(package, images) == launcher_c(again, shuffled)
    assert header_h(package) == header_h(again)


def test_text_from_users_cannot_leave_its_comment(tmp_path: Path) -> None:
    package, images = linear()
    entry = package.entries[0]
    first = replace(entry.variants[0], name='wide */ int x; /* "\\ ??/ \n né')
    package = replace(package, entries=(replace(entry, variants=(first, *entry.variants[1:])),))
    source = write_sources(package, images, tmp_path)
    for mode in ("c89", "c++98"):
        for compiler in compilers(mode):
            run([*compiler, *WARNINGS, "-fsyntax-only", source])


def test_names_that_c_reserves_get_an_underscore() -> None:
    assert [c_name(name) for name in ("class", "int", "x", "x_", "class_", "sms", "I")] == [
        "class_", "int_", "x", "x_", "class__", "sms_", "I_",
    ]  # fmt: skip
    assert c_name("größe") == "gru00f6u00dfe"


def test_pieces_of_text() -> None:
    assert comment("a */ b /* c ??/ \\ é") == "a * / b / * c ? ?/ / U+00E9"
    assert comment_block("one") == ["/* one */"]
    assert comment_block("one\n\ntwo") == ["/* one", " *", " * two */"]
    assert string_literal('a"b\\?é') == '"a\\"b\\\\\\?\\303\\251"'
    assert "".join(byte_rows(bytes(range(256)))) == ",".join(map(str, range(256)))
    assert max(map(len, byte_rows(bytes(1000)))) <= 110
    long = "  if (" + " && ".join(f"condition_{i}" for i in range(20)) + ") return;"
    assert max(map(len, wrapped(long))) <= 118 and " ".join(line.strip() for line in wrapped(long)) == long.strip()


THREADS = r"""
#include "linear.h"
#include "fake_driver.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static linear_f16_ctx ctx;

static void *work(void *failures) {
  linear_f16_args args;
  texpr_error error;
  int round;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.abi_version = TEXPR_ABI_VERSION;
  args.x = (void *)0x10000000;
  args.w = (void *)0x20000000;
  args.y = (void *)0x30000000;
  args.N = 512;
  args.K = 64;
  for (round = 0; round < 5000; ++round) {
    args.M = round % 400;
    if (linear_f16_launch(&ctx, NULL, &args, NULL, 0, &error) != TEXPR_OK) ++*(int *)failures;
  }
  return NULL;
}

int main(void) {
  pthread_t threads[2];
  int failures[2] = {0, 0};
  texpr_driver driver;
  fake_reset();
  fake_table(&driver);
  if (linear_f16_init(&ctx, &driver, NULL) != TEXPR_OK) return 2;
  driver.ctx_get_current = NULL; /* init copied the table */
  fake.recording = 0;
  pthread_create(&threads[0], NULL, work, &failures[0]);
  pthread_create(&threads[1], NULL, work, &failures[1]);
  pthread_join(threads[0], NULL);
  pthread_join(threads[1], NULL);
  return failures[0] + failures[1] != 0;
}
"""


def test_threads_may_launch_at_the_same_time(tmp_path: Path) -> None:
    """Two threads on one context object, under ThreadSanitizer where it is installed."""
    source = write_sources(*linear(), tmp_path)
    (tmp_path / "probe.c").write_text("int main(void) { return 0; }\n")
    (tmp_path / "threads.c").write_text(THREADS)
    with_tsan = shutil.which("gcc") and _works(
        ["gcc", "-fsanitize=thread", tmp_path / "probe.c", "-o", tmp_path / "probe"]
    )
    sanitize = ["-fsanitize=thread"] if with_tsan else []
    files = [tmp_path / "threads.c", source, tmp_path / "fake_images.c", HERE / "fake_driver.c"]
    run(
        [
            "gcc",
            "-g",
            "-O1",
            *sanitize,
            f"-I{HERE}",
            f"-I{tmp_path}",
            *files,
            "-o",
            tmp_path / "threads",
            "-pthread",
            "-ldl",
        ]
    )
    run([tmp_path / "threads"])


def _works(command: list[str | Path]) -> bool:
    try:
        run(command)
    except AssertionError:
        return False
    return True
