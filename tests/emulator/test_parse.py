"""PTX text becomes typed records: names resolved, lines and sources kept."""

from __future__ import annotations

import pytest

from texpr.emulator import PtxError, SourceLine, load_ptx
from texpr.emulator.parse import parse_ptx
from texpr.emulator.ptx import Address, FloatBits, Integer, Negated, Pair, Register, Sink, Special, Symbol, Vector
from texpr.emulator.types import TYPES

HEADER = ".version 8.8\n.target sm_80\n.address_size 64\n"


def body_of(body: str, header: str = HEADER):  # type: ignore[no-untyped-def]
    declared = ".reg .b32 %r<4>; .reg .b64 %d; .reg .pred %p;"
    return parse_ptx(f"{header}.visible .entry k() {{ {declared}\n{body}\nret; }}", "t.ptx", {}).kernels[0]


def operand(text: str):  # type: ignore[no-untyped-def]
    return body_of(f"mov.b32 %r0, {text};").instructions[0].operands[1]


B32 = TYPES["b32"]


@pytest.mark.parametrize(("text", "expected"), [
    ("%r3", Register("%r3", B32)),
    ("%tid.x", Special("%tid.x")),
    ("42", Integer(42)), ("-7", Integer(-7)), ("0x1F", Integer(31)), ("0b101", Integer(5)), ("017", Integer(15)),
    ("4294967295U", Integer(4294967295)), ("WARP_SZ", Integer(32)),
    ("0f3F800000", FloatBits(0x3F800000, 32)), ("0d3FF0000000000000", FloatBits(0x3FF0000000000000, 64)),
    ("1.5", FloatBits(0x3FF8000000000000, 64)),
    ("table", Symbol("table", 0)), ("table+12", Symbol("table", 12)),
    ("_", Sink()), ("!%p", Negated(Register("%p", TYPES["pred"]))),
    ("{%r1, 5}", Vector((Register("%r1", B32), Integer(5)))),
    ("%r1|%p", Pair(Register("%r1", B32), Register("%p", TYPES["pred"]))),
    ("[%r1]", Address(Register("%r1", B32), 0)), ("[ %r1 + 0 ]", Address(Register("%r1", B32), 0)),
    ("[%r1+-8]", Address(Register("%r1", B32), -8)), ("[%r1 - 8]", Address(Register("%r1", B32), -8)),
    ("[table+0x10]", Address(Symbol("table", 0), 16)), ("[64]", Address(Integer(64), 0)),
])
def test_operands(text: str, expected: object) -> None:
    assert operand(text) == expected


def test_every_instruction_knows_its_line_and_source() -> None:
    text = HEADER + """.visible .entry k()
{
    .reg .b32 %r<3>;
    .loc 1 10 3
    mov.u32 %r0, 1; /* two
    lines */ mov.u32 %r1, 2; // .loc 1 99 1
    .loc 2 77 1, function_name $L, inlined_at 1 12 5
    add.u32 %r2,
        %r0, %r1;
    ret;
}
.file 1 "user.py"
.file 2 "library.py"
"""
    first, second, third, _ = parse_ptx(text, "t.ptx", {}).kernels[0].instructions
    assert [first.line, second.line, third.line] == [8, 9, 11]
    assert (first.source, second.source) == (SourceLine("user.py", 10), SourceLine("user.py", 10))
    # Code inlined from another file is attributed to the call.
    assert third.source == SourceLine("user.py", 12)
    assert third.text == "add.u32 %r2, %r0, %r1"


def test_a_line_map_overrides_the_files_own_locations() -> None:
    text = HEADER + ".visible .entry k() {\n.loc 1 5 1\nret;\n}\n.file 1 \"a.py\"\n"
    assert load_ptx(text).kernels["k"].blocks[0].transfer.operation.instruction.source == SourceLine("a.py", 5)
    mapped = load_ptx(text, "t.ptx", {6: 31}, source="kernel.py").kernels["k"]
    assert mapped.blocks[0].transfer.operation.instruction.source == SourceLine("kernel.py", 31)


def test_scopes_may_reuse_names() -> None:
    kernel = body_of("{ .reg .b32 x; mov.u32 x, 1; bra L; L: } { .reg .b64 x; mov.u64 x, 2; bra L; L: }")
    first, branch, second, other = kernel.instructions[:4]
    assert first.operands[0] != second.operands[0]
    assert second.operands[0].type is TYPES["b64"]
    assert branch.operands != other.operands and len(kernel.labels) == 2


def test_directives_around_kernels() -> None:
    text = HEADER + """
        .extern .shared .align 16 .b8 dynamic[];
        .global .align 4 .b8 data[6] = {1, 2, 0xFF};
        .visible .entry first(.param .u64 .ptr .global .align 1 p, .param .align 64 .b8 map[128], .param .u32 n)
        .maxntid 128, 1, 1
        .reqntid 64, 2
        .minnctapersm 1
        { .pragma "nounroll"; ret; }
        .visible .entry second() { ret; }
        .section .debug_info { .b8 1 .b8 2 { } }
    """
    module = parse_ptx(text, "t.ptx", {})
    assert [kernel.name for kernel in module.kernels] == ["first", "second"]
    assert module.kernels[0].reqntid == (64, 2, 1)
    assert [(p.name, p.size, p.align, p.offset) for p in module.kernels[0].params] == [
        ("p", 8, 8, 0), ("map", 128, 64, 64), ("n", 4, 4, 192)]
    dynamic, data = module.variables
    assert (dynamic.space, dynamic.size, dynamic.align) == ("shared", 0, 16)
    assert (data.size, data.data) == (6, b"\x01\x02\xff")


@pytest.mark.parametrize(("text", "line", "message"), [
    ("hello", 1, "directive expected"),
    (".version 8.0\n.address_size 64\n", 1, "no .target"),
    (HEADER + ".visible .entry k() {\nret;\n", 4, "not closed"),
    (HEADER + ".visible .entry k() {\nadd.u32 %r0, 1\n", 5, "';' expected"),
    (HEADER + ".visible .entry k() {\nA:\nA:\nret; }", 6, "declared twice"),
    (HEADER + ".visible .entry k() {\n.reg .what %r; ret; }", 5, "register declaration"),
    (HEADER + ".visible .entry k(.param .b7 x) { ret; }", 4, "parameter"),
    (HEADER + ".global .b8 x[2] = {a};\n", 4, "not a number"),
])
def test_syntax_errors_name_the_line(text: str, line: int, message: str) -> None:
    with pytest.raises(PtxError) as caught:
        load_ptx(text, "t.ptx")
    assert message in str(caught.value)
    if "not closed" not in message:
        assert caught.value.line == line
