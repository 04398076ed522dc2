"""Runs the code blocks of one Markdown file; ``blocks.py`` says what that means for each kind of block."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import Block, Command, commands_of, is_excerpt, matches
from texpr.schedule import load_schedule

ROOT = Path(__file__).parent.parent.parent
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
_TIME_LIMIT = 120
_SHOWN_ONLY = ("text", "ebnf", "json")
_VARIANT = "texpr: 1\nalgorithm: a\nvariants:\n- name: v\n  target: sm_80\n"
_WRAPPERS = {"kernel": _VARIANT + "  kernels:\n  - name: k\n    writes: [y]\n", "variant": _VARIANT}
_DEPTH = {"kernel": 4, "variant": 2}


class Page:
    """One file's namespace and folder. Every method raises AssertionError with the block's place when it is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = folder
        self.names: dict[str, object] = {"__name__": "__docs__"}
        for name in ("kernels", "schedules"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        self.environment = _environment(folder)

    def run(self, block: Block) -> None:
        """Do with a block what its language and options ask for."""
        if "from" in block.options:
            self.check_excerpt(block)
        if "title" in block.options:
            path = self.current / block.options["title"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if "part" in block.options:
            self.check_part(block)
        match block.language:
            case "python":
                self.run_python(block)
            case "yaml":
                read_yaml(block)
            case "c" if "from" not in block.options:
                self.compile_c(block)
            case "console":
                for command in commands_of(block):
                    self.run_command(block, command)
            case language if language in _SHOWN_ONLY or "from" in block.options:
                pass
            case language:
                raise AssertionError(f"{block}: what should the tests do with a block of {language or 'no language'}?")

    def find(self, block: Block, name: str) -> Path:
        """A file that a block names: one that the page has made, else one of the repository."""
        for place in (self.current, self.folder, ROOT):
            if (place / name).is_file():
                return place / name
        raise AssertionError(f"{block}: there is no file {name}")

    def check_excerpt(self, block: Block) -> None:
        path = self.find(block, block.options["from"])
        assert is_excerpt(block.text, path.read_text()), f"{block}: this is no excerpt of {path.name}"

    def check_part(self, block: Block) -> None:
        whole = json.loads(self.find(block, block.options["part"]).read_text())
        problem = missing(json.loads(block.text), whole)
        assert not problem, f"{block}: {problem}"

    def run_python(self, block: Block) -> None:
        with _working_in(self.current):
            if block.text.startswith(">>>"):
                self.run_doctest(block)
            else:
                # Blank lines in front make tracebacks, and TExpr's errors, name the line of the page.
                code = compile("\n" * (block.line - 1) + block.text, str(block.file), "exec", dont_inherit=True)
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(code, self.names)

    def run_doctest(self, block: Block) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        examples = doctest.DocTestParser().get_doctest(block.text, {}, block.file.name, str(block.file), block.line - 1)
        examples.globs = self.names
        report = io.StringIO()
        runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
        runner.run(examples, out=report.write, clear_globs=False)
        assert runner.failures == 0, f"{block}:\n{report.getvalue()}"

    def compile_c(self, block: Block) -> None:
        includes = [f"-I{header.parent}" for header in sorted(self.folder.rglob("*.h"))]
        command = [*_c_compiler(), *WARNINGS, *dict.fromkeys(includes), "-c", "-o", os.devnull, "-xc", "-"]
        done = subprocess.run(command, input=block.text, capture_output=True, text=True, cwd=self.current)
        assert done.returncode == 0, f"{block}:\n{done.stderr}"

    def run_command(self, block: Block, command: Command) -> None:
        words = command.text.split()
        if words[0] == "cd":
            self.current = (self.current / words[1]).resolve()
            assert self.current.is_dir(), f"{block}: there is no folder {words[1]}"
            return
        text = f"make -n -C {ROOT} {' '.join(words[1:])} >/dev/null" if words[0] == "make" else command.text
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=self.current,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIME_LIMIT,
        )
        place = f"{block.file.name}:{command.line}: $ {command.text}"
        assert done.returncode == (1 if command.fails else 0), f"{place}\nexit status {done.returncode}\n{done.stdout}"
        if command.output is not None and words[0] != "make":
            assert matches(command.output, done.stdout), (
                f"{place}\n--- the page shows\n{command.output}\n--- it printed\n{done.stdout}"
            )


def read_yaml(block: Block) -> None:
    """Read a schedule, or directives within a minimal one."""
    wrapper = next((word for word in block.words if word in _WRAPPERS), None)
    text = block.text
    if wrapper is not None:
        indented = "".join(f"{' ' * _DEPTH[wrapper]}{line}\n" for line in block.text.splitlines())
        kernels = "  kernels: [{name: k, writes: [y], grid: {i: 1}}]\n" if wrapper == "variant" else ""
        text = _WRAPPERS[wrapper] + indented + ("" if "kernels:" in block.text else kernels)
    load_schedule(text, str(block))


def missing(shown: object, whole: object, where: str = "") -> str:
    """What of ``shown`` is not in ``whole``, in words; empty if nothing is."""
    match shown, whole:
        case "...", _:
            return ""
        case dict(), dict():
            for key, value in shown.items():
                if key not in whole:
                    return f"{where}.{key} does not exist"
                if problem := missing(value, whole[key], f"{where}.{key}"):
                    return problem
            return ""
        case list(), list():
            cut = shown[-1:] == ["..."]
            items = shown[:-1] if cut else shown
            if len(items) > len(whole) or (len(items) < len(whole) and not cut):
                return f"{where} has {len(whole)} items, not {len(items)}"
            found = (missing(a, b, f"{where}[{n}]") for n, (a, b) in enumerate(zip(items, whole, strict=False)))
            return next((problem for problem in found if problem), "")
        case str(), str() if "..." in shown:
            return "" if matches(shown, whole) else f"{where} is {whole!r}"
        case _:
            return "" if shown == whole else f"{where} is {whole!r}, not {shown!r}"


def _environment(folder: Path) -> dict[str, str]:
    """An environment in which ``texpr`` and ``python`` are those that run the tests."""
    programs = folder / ".bin"
    programs.mkdir()
    for name, arguments in (("texpr", "-m texpr.cli"), ("python", ""), ("python3", "")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(
        os.environ, PATH=f"{programs}:{os.environ['PATH']}", PYTHONPATH=os.pathsep.join(paths), COLUMNS="120"
    )


def _c_compiler() -> list[str]:
    return os.environ.get("CC", "cc").split()


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
