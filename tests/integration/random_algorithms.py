"""Random algorithms as Python text: small, legal, and made of everything the language has."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

TYPES: Final = {
    "float": ("f16", "bf16", "f32", "f32"),
    "double": ("f64", "f32"),
    "int": ("i8", "i16", "i32", "u8", "u16", "u32", "i64", "u64"),
    "bool": ("bool",),
}
EXTENTS: Final = ("M", "N", "K", "L", "P", "Q", 1, 2, 3, 4, 5, 7, 8, 16, 20, 33)
UNARY: Final = (
    "(-{a})", "abs({a})", "te.relu({a})", "te.tanh({a})", "te.exp(-abs({a}))", "te.sigmoid({a})", "te.gelu({a})",
    "te.sqrt(abs({a}))", "({a} ** 2)", "{a}.to('f16')", "{a}.to('bf16')", "{a}.to('f32')", "te.silu({a})",
    "te.exp2(-abs({a}))", "te.log(1.0 + abs({a}))", "te.rsqrt(1.0 + abs({a}))", "te.floor({a})", "te.erf({a})",
)  # fmt: skip
BINARY: Final = (
    "({a} + {b})", "({a} - {b})", "({a} * {b})", "te.maximum({a}, {b})", "te.minimum({a}, {b})",
    "({a} / (1.0 + abs({b})))", "te.where({c}, {a}, {b})", "te.fma({a}, {b}, 0.5)",
)  # fmt: skip
INT_UNARY: Final = ("(-{a})", "(~{a})", "({a} >> 1)", "({a} << 2)", "({a} // 3)", "({a} % 5)", "te.relu({a})")
INT_BINARY: Final = (
    "({a} + {b})", "({a} - {b})", "({a} * {b})", "({a} & {b})", "({a} | {b})", "({a} ^ {b})",
    "te.maximum({a}, {b})", "te.minimum({a}, {b})", "te.where({c}, {a}, {b})",
)  # fmt: skip
NAMES: Final = (
    "i0", "j0", "k0", "pid", "tile", "step", "steps", "programs", "gl", "tl", "range", "min", "max", "int", "x0_tile",
    "y0_mask", "has_x0", "x0_stride_0", "i_inside", "sms_", "offset", "acc", "y0_acc", "TILE", "async_copy", "min_nan",
    "ahead", "piece", "triton", "program_", "stream", "status", "context", "args", "double_", "a", "b", "i_2",
)  # fmt: skip
VIEWS: Final = ("padded(0)", "padded(1)", "clamped()", "wrapped()", "mirrored()")
OPERANDS: Final = (  # of a contraction: types in memory, how they are read, type of the sum
    ("f16", "f16", "{a}", "{b}", "f32"),
    ("f16", "f16", "{a}", "{b}", "f32"),
    ("bf16", "bf16", "{a}", "{b}", "f32"),
    ("f32", "f32", "{a}", "{b}", "f32"),
    ("f32", "f32", "{a}.to('tf32')", "{b}.to('tf32')", "f32"),
    ("f64", "f64", "{a}", "{b}", "f64"),
    ("i8", "i8", "{a}.to('i32')", "{b}.to('i32')", "i32"),
    ("f16", "i8", "{a}", "{b}.to('f16')", "f32"),
    ("f8e4m3", "f8e5m2", "{a}", "{b}", "f32"),
    ("f8e4m3", "f8e4m3", "{a}", "{b}", "f32"),
    ("f32", "f32", "te.relu({a}).to('f16')", "{b}.to('f16')", "f32"),
    ("f16", "bf16", "{a}", "{b}", "f32"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Something to read: a tensor or a func, with the axis that indexes each dim, and how far each dim is longer than
    its axis."""

    name: str
    axes: tuple[str, ...]
    dtype: str
    groups: tuple[int, ...]
    longer: tuple[int, ...]
    optional: bool = False
    defined: bool = False


@dataclass
class Draft:
    """An algorithm as it grows. ``kind`` is what its numbers are; ``word`` the integer type it computes in."""

    rng: random.Random
    kind: str
    word: str
    extents: dict[str, str | int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    funcs: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    monoids: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def axis(self, extent: str | int | None = None) -> str:
        name = "ijklmnpqrst"[len(self.extents)]
        free = [e for e in EXTENTS if isinstance(e, int) or e not in self.extents.values()]
        weights = [3 if isinstance(e, str) else 1 for e in free]
        self.extents[name] = self.rng.choices(free, weights)[0] if extent is None else extent
        return name

    def text(self, name: str = "program") -> str:
        """The whole Python file."""
        for extent in self.extents.values():
            if isinstance(extent, str) and not any(re.search(rf"\b{extent}\b", part) for part in self.inputs):
                self.inputs.append(f"x{len(self.inputs)}: f32[{extent}]")  # something must say how long the dim is
        signature = f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        names = [part.partition(":")[0] for part in (*self.inputs, *self.outputs)]
        axes = ", ".join(f"{a}={e!r}" for a, e in self.extents.items())
        left = ", ".join(self.extents) + ("," if len(self.extents) == 1 else "")
        body = [f"{left} = te.axes({axes})"]
        body += [f"{func.partition(':')[0]} = te.func({_func_arguments(func)})" for func in self.funcs]
        body += [*self.monoids, *self.lines]
        lines = "".join(f"    {line}\n" for line in body)
        return f'import texpr as te\n\n\n@te.algorithm("{signature}")\ndef {name}({", ".join(names)}):\n{lines}'

    # ---- things to read

    def source(self, axes: Sequence[str], kind: str) -> Source:
        """A tensor or func over some of ``axes``: one that exists, or a new tensor."""
        known = [s for s in self.sources if set(s.axes) <= set(axes) and s.dtype in TYPES[kind]]
        tensors = sum(not s.defined for s in self.sources)
        unread = [s for s in known if s.defined and s.name not in self.used]
        if unread and self.rng.random() < 0.7:
            return self.rng.choice(unread)
        if known and self.rng.random() < (0.4 if tensors < 4 else 0.95):
            return self.rng.choice(known)
        return self.tensor(axes, kind)

    def tensor(self, axes: Sequence[str], kind: str) -> Source:
        rng = self.rng
        count = len(axes) if rng.random() < 0.7 else rng.randint(1, len(axes))
        chosen = sorted(rng.sample(list(axes), count), key=list(axes).index)
        if rng.random() < 0.25:
            rng.shuffle(chosen)
        longer = tuple(rng.choice((0, 0, 0, 0, 0, 2)) for _ in chosen)
        groups = (1,) * count
        if count > 1 and rng.random() < 0.12:
            groups = (1,) * (count - 2) + (2,) if rng.random() < 0.7 else (2,) + (1,) * (count - 2)
        return self.declare(chosen, rng.choice(TYPES[kind]), groups, longer, rng.random() < 0.1)

    def declare(
        self,
        axes: Sequence[str],
        dtype: str,
        groups: Sequence[int] | None = None,
        longer: Sequence[int] | None = None,
        optional: bool = False,
    ) -> Source:
        """A new input whose dims are indexed by ``axes``."""
        groups, longer = groups or (1,) * len(axes), longer or (0,) * len(axes)
        name = f"x{len(self.inputs)}"
        dims = [_dim(self.extents[a], more) for a, more in zip(axes, longer, strict=True)]
        parts = _grouped(dims, groups)
        if len(parts) > 1 and self.rng.random() < 0.12:
            parts[self.rng.randrange(len(parts) - 1)] += "*"
        self.inputs.append(f"{name}: {dtype}[{', '.join(parts)}]" + ("?" if optional else ""))
        source = Source(name, tuple(axes), dtype, tuple(groups), tuple(longer), optional)
        self.sources.append(source)
        return source

    def read(self, source: Source) -> str:
        """``source`` at its axes, or around them under a boundary."""
        rng = self.rng
        self.used.add(source.name)
        view = ""
        if rng.random() < 0.18:
            view = "." + rng.choice(VIEWS[:1] + VIEWS[2:] if source.dtype == "bool" else VIEWS)
            moved = [f"{a} + {rng.randint(-2, 3)}" if rng.random() < 0.6 else a for a in source.axes]
        else:
            moved = [
                f"{a} + {rng.randint(0, more)}" if more else a
                for a, more in zip(source.axes, source.longer, strict=True)
            ]
        moved = [text.replace(" + 0", "").replace("+ -", "- ") for text in moved]
        index = ", ".join(_grouped(moved, source.groups))
        if source.optional:
            default = "False" if source.dtype == "bool" else str(rng.choice((0, 1)))
            inner = f"({index})" if len(source.groups) > 1 else index
            return f"{source.name}{view}.get({inner}, {default})"
        return f"{source.name}{view}[{index}]"

    def gathered(self, axes: Sequence[str], kind: str) -> str:
        """A table read at an index that is data."""
        rng = self.rng
        guarded = rng.random() < 0.5
        rows = rng.choice(("V", 6))
        by = self.rng.choice(list(axes))
        rest = [a for a in axes if a != by and rng.random() < 0.7]
        index = f"x{len(self.inputs)}"
        low = -1 if guarded else 0
        narrow = rows == 6 and rng.random() < 0.4
        dtype = rng.choice(("i8", "i16") if guarded else ("u8", "i16", "u16")) if narrow else rng.choice(("i32", "i64"))
        wide = rng.choice((".to('i32')", ".to('i64')", "")) if narrow else ""
        self.inputs.append(f"{index}: {dtype}[{self.extents[by]}] in [{low}, {rows})")
        table = f"x{len(self.inputs)}"
        dims = ", ".join([str(rows), *(str(self.extents[a]) for a in rest)])
        self.inputs.append(f"{table}: {rng.choice(TYPES[kind])}[{dims}]")
        tail = "".join(f", {a}" for a in rest)
        if guarded:
            read = self.as_word(f"{table}[te.maximum({index}[{by}]{wide}, 0){tail}]", kind)
            return f"te.where({index}[{by}] >= 0, {read}, {self.zero(kind)})"
        return self.as_word(f"{table}[{index}[{by}]{wide}{tail}]", kind)

    def zero(self, kind: str) -> str:
        return "0" if kind == "int" else "False" if kind == "bool" else "0.0"

    def as_word(self, text: str, kind: str) -> str:
        return f"{text}.to('{self.word}')" if kind == "int" else text

    # ---- expressions

    def value(self, axes: Sequence[str], depth: int) -> str:
        """An expression of the draft's kind over ``axes``."""
        rng = self.rng
        if depth == 0 or rng.random() < 0.15:
            return self.leaf(axes)
        unary, binary = (INT_UNARY, INT_BINARY) if self.kind == "int" else (UNARY, BINARY)
        form = rng.choice(unary) if rng.random() < 0.4 else rng.choice(binary)
        if "'f" in form or "'bf" in form:
            form = form.replace("'f32'", "'f64'") if self.kind == "double" else form
        parts = {"a": self.value(axes, depth - 1)}
        if "{b}" in form:
            parts["b"] = self.value(axes, depth - 1)
        if "{c}" in form:
            parts["c"] = self.condition(axes, depth - 1)
        return form.format(**parts)

    def leaf(self, axes: Sequence[str]) -> str:
        rng = self.rng
        roll = rng.random()
        if roll < 0.05:
            return self.scalar()
        if roll < 0.10:
            axis = rng.choice(list(axes))
            return f"{axis}.to('{self.word if self.kind == 'int' else 'f32'}')"
        if roll < 0.16 and len(self.inputs) < 7:
            return self.gathered(axes, self.kind)
        return self.as_word(self.read(self.source(axes, self.kind)), self.kind)

    def scalar(self) -> str:
        dtype = self.word if self.kind == "int" else self.rng.choice(("f32", "f16")) if self.kind == "float" else "f64"
        name = f"x{len(self.inputs)}"
        self.inputs.append(f"{name}: {dtype}")
        return name

    def condition(self, axes: Sequence[str], depth: int = 0) -> str:
        rng = self.rng
        roll = rng.random()
        if depth > 0 and roll < 0.15:
            return f"({self.condition(axes)} {rng.choice('&|^')} {self.condition(axes)})"
        if depth > 0 and roll < 0.2:
            return f"~({self.condition(axes)})"
        axis = rng.choice(list(axes))
        if roll < 0.35:
            return f"({axis} % {rng.randint(2, 4)} == {rng.randint(0, 1)})"
        if roll < 0.5:
            other = rng.choice(list(axes))
            return f"({axis} {rng.choice(('<', '<=', '>', '!='))} {other} + {rng.randint(-2, 4)})".replace("+ -", "- ")
        if roll < 0.6:
            return self.read(self.source(axes, "bool"))
        optional = [s for s in self.sources if s.optional]
        if optional and roll < 0.65:
            return f"te.present({rng.choice(optional).name})"
        left, right = self.leaf(axes), self.zero(self.kind) if rng.random() < 0.5 else self.leaf(axes)
        return f"({left} {rng.choice(('<', '<=', '>', '>=', '==', '!='))} {right})"

    # ---- definitions

    def define(self, axes: Sequence[str], output: bool) -> str:
        """A new func or output over ``axes``; returns the left side of its definition."""
        rng = self.rng
        kind = TYPES[self.kind]
        dtype = self.word if self.kind == "int" else rng.choice(kind)
        if output:
            name = f"y{len(self.outputs)}"
            groups = (1,) * len(axes)
            if len(axes) > 1 and rng.random() < 0.08:
                groups = (1,) * (len(axes) - 2) + (2,)
            dims = _grouped([str(self.extents[a]) for a in axes], groups)
            self.outputs.append(f"{name}: {dtype}[{', '.join(dims)}]")
            left = f"{name}[{', '.join(_grouped(list(axes), groups))}]"
        else:
            name = f"f{len(self.funcs)}"
            groups = (1,) * len(axes)
            declared = self.kind != "int" and rng.random() < 0.3
            self.funcs.append(f"{name}:{dtype}" if declared else name)
            dtype = dtype if declared else {"float": "f32", "double": "f64"}.get(self.kind, self.word)
            left = f"{name}[{', '.join(axes)}]"
        self.defined.append(Source(name, tuple(axes), dtype, groups, (0,) * len(axes), defined=True))
        return left

    @property
    def defined(self) -> list[Source]:
        """Where new funcs go: they can be read from the next definition on."""
        return self.sources

    def forget(self, count: int) -> list[Source]:
        """Take away the newest sources, which are being defined."""
        taken = self.sources[len(self.sources) - count :]
        del self.sources[len(self.sources) - count :]
        return taken

    def elementwise(self, axes: Sequence[str], output: bool) -> None:
        order = list(axes)
        if self.rng.random() < 0.2:
            self.rng.shuffle(order)
        left = self.define(order, output)
        new = self.forget(1)
        value = self.value(axes, self.rng.randint(1, 3))
        self.lines.append(f"{left} = {self.matched(value, axes)}")
        self.sources += new

    def matched(self, value: str, axes: Sequence[str]) -> str:
        """The right side of a definition: never made of Python numbers only."""
        if self.kind == "double":
            return f"{value}.to('f64')"
        return f"({value}).to('{self.word}')" if self.kind == "int" else f"({value}).to('f32')"

    def reduction(self, kept: Sequence[str], reduced: Sequence[str], output: bool) -> None:
        """A reduction of any kind over ``reduced``."""
        rng = self.rng
        every = [*kept, *reduced]
        over = f"({', '.join(reduced)})" if len(reduced) > 1 or rng.random() < 0.1 else reduced[0]
        over = over.replace(")", ",)") if len(reduced) == 1 and over.startswith("(") else over
        where = f", where={self.condition(every, 1)}" if rng.random() < 0.3 else ""
        kinds = ["sum", "sum", "max", "min", "prod", "arg", "monoid", "inner"]
        kinds += ["and", "or", "xor"] if self.kind == "int" else ["mean", "mean"]
        choice = rng.choice(kinds)
        if choice == "arg":
            best = self.define(kept, output)
            new = self.forget(1)
            value = self.value(every, rng.randint(0, 2))
            name = f"y{len(self.outputs)}"
            extents = ", ".join(str(self.extents[a]) for a in kept)
            self.outputs.append(f"{name}: {rng.choice(('i32', 'i64'))}[{extents}]")
            op = rng.choice(("argmax", "argmin"))
            self.lines.append(
                f"{best}, {name}[{', '.join(kept)}] = te.{op}({self.matched(value, every)}, over={over}{where})"
            )
            self.sources += new
            return
        left = self.define(kept, output)
        new = self.forget(1)
        value = self.matched(self.value(every, rng.randint(0, 2)), every)
        if choice == "monoid":
            right = self.by_monoid(value, every, over, where)
        elif choice == "inner":
            inner = f"te.{rng.choice(('sum', 'max', 'min'))}({value}, over={over}{where})"
            right = self.matched(f"({inner} + {self.leaf(kept)})", kept)
        elif choice in ("and", "or", "xor"):
            right = f"te.reduce('{choice}', {value}, over={over}{where})"
        else:
            right = f"te.{choice}({value}, over={over}{where})"
        self.lines.append(f"{left} = {right}")
        self.sources += new

    def scan(self, axes: Sequence[str], output: bool) -> None:
        """A scan of any kind along one of ``axes``."""
        rng = self.rng
        left = self.define(axes, output)
        new = self.forget(1)
        value = self.matched(self.value(axes, rng.randint(0, 2)), axes)
        along = rng.choice(list(axes))
        flags = [flag for flag in ("exclusive=True", "reverse=True") if rng.random() < 0.4]
        flags += [f"reset={self.condition(axes)}"] if rng.random() < 0.3 else []
        words = "".join(f", {flag}" for flag in (f"along={along}", *flags))
        if self.kind != "int" and rng.random() < 0.3:
            body = "(p[0] * q[0], q[0] * p[1] + q[1])"
            self.monoids.append(f"m{len(self.monoids)} = te.monoid(lambda p, q: {body}, identity=(1.0, 0.0))")
            first = self.matched(f"te.tanh({self.leaf(axes)})", axes)
            right = f"te.scan(m{len(self.monoids) - 1}, ({first}, {value}){words})[1]"
        else:
            op = rng.choice(("+", "+", "max", "min", "*", *(("xor", "and") if self.kind == "int" else ())))
            right = f"te.scan('{op}', {value}{words})"
        self.lines.append(f"{left} = {right}")
        self.sources += new

    def by_monoid(self, value: str, axes: Sequence[str], over: str, where: str) -> str:
        """A user's operator: a pair whose order matters, or one number."""
        rng = self.rng
        if self.kind == "int" or rng.random() < 0.4:
            identity = {"i8": -128, "i16": -32768, "i32": -(2**31), "i64": -(2**63)}.get(self.word, 0)
            least = identity if self.kind == "int" else "float('-inf')"
            self.monoids.append(
                f"m{len(self.monoids)} = te.monoid(lambda p, q: te.maximum(p, q), identity={least}, commutative=True)"
            )
            if self.kind == "int" and self.word != "i32":  # a monoid's identity is tested as i32
                self.monoids.pop()
                return f"te.max({value}, over={over}{where})"
            return f"te.reduce(m{len(self.monoids) - 1}, {value}, over={over}{where})"
        if rng.random() < 0.7:
            body, commutes = "(p[0] * q[0] - p[1] * q[1], p[0] * q[1] + p[1] * q[0])", ", commutative=True"
        else:
            body, commutes = "(p[0] * q[0], q[0] * p[1] + q[1])", ""
        self.monoids.append(f"m{len(self.monoids)} = te.monoid(lambda p, q: {body}, identity=(1.0, 0.0){commutes})")
        first = f"te.tanh({self.leaf(axes)})"
        return f"te.reduce(m{len(self.monoids) - 1}, ({self.matched(first, axes)}, {value}), over={over}{where})[1]"

    def contraction(self, output: bool) -> list[str]:
        """``sum a * b`` in some arrangement of axes, with or without a prologue and a guard; returns its axes."""
        rng = self.rng
        batch = [self.axis(rng.choice(("B", 2)))] if rng.random() < 0.25 else []
        rows, cols = [self.axis()], [self.axis()]
        if rng.random() < 0.12:
            rows.append(self.axis(rng.choice((2, 4))))
        reduced = [self.axis()] + ([self.axis(rng.choice((2, 3)))] if rng.random() < 0.2 else [])
        a_type, b_type, a_form, b_form, total = rng.choice(OPERANDS)
        a, b = self.arranged([*batch, *rows, *reduced], a_type), self.arranged([*batch, *reduced, *cols], b_type)
        a_text, b_text = a_form.format(a=self.read_plain(a)), b_form.format(b=self.read_plain(b))
        if total == "f32" and rng.random() < 0.2:
            scale = self.declare([rng.choice([*reduced, *cols])], "f32")
            b_text = f"({b_text} * {self.read_plain(scale)}).to('f16')"
            a_text = f"{a_text}.to('f16')"
        if total == "f32" and rng.random() < 0.15:
            narrow = a_type if a_type[0] == "b" or a_type == "f16" else "f16"
            a_text = f"te.where({rows[0]} != {reduced[0]}, {a_text}, 0.0).to('{narrow}')"
        kept = [*batch, *rows, *cols]
        where = f", where={self.condition([*rows, *reduced], 0)}" if rng.random() < 0.12 else ""
        over = f"({', '.join(reduced)})" if len(reduced) > 1 else reduced[0]
        self.kind, self.word = (
            ("int", "i32") if total == "i32" else ("double", "i32") if total == "f64" else ("float", "i32")
        )
        left = self.define(kept, output)
        new = self.forget(1)
        self.lines.append(f"{left} = te.sum({a_text} * {b_text}, over={over}{where})")
        self.sources += new
        return kept

    def arranged(self, axes: Sequence[str], dtype: str) -> Source:
        order = list(axes)
        if self.rng.random() < 0.35:
            self.rng.shuffle(order)
        return self.declare(order, dtype)

    def read_plain(self, source: Source) -> str:
        return f"{source.name}[{', '.join(source.axes)}]"


def _func_arguments(func: str) -> str:
    name, _, dtype = func.partition(":")
    return f'"{name}", "{dtype}"' if dtype else f'"{name}"'


def _dim(extent: str | int, more: int) -> str:
    if not more:
        return str(extent)
    return str(extent + more) if isinstance(extent, int) else f"{extent} + {more}"


def _grouped(parts: Sequence[str], groups: Sequence[int]) -> list[str]:
    """Parts, those of a composite dim in parentheses."""
    result, position = [], 0
    for size in groups:
        taken = list(parts[position : position + size])
        result.append(taken[0] if size == 1 else f"({', '.join(taken)})")
        position += size
    return result


def random_algorithm(seed: int) -> str:
    """The text of a Python file that defines ``program``, an algorithm; the same for the same seed."""
    rng = random.Random(seed)
    draft = Draft(
        rng, rng.choice(("float", "float", "float", "int", "double")), rng.choice(("i32", "i32", *TYPES["int"]))
    )
    family = rng.choice(
        ("elementwise", "elementwise", "rows", "rows", "chain", "contraction", "contraction", "stencil", "scan")
    )
    match family:
        case "elementwise":
            axes = [draft.axis() for _ in range(rng.randint(1, 4))]
            for _ in range(rng.randint(0, 2)):
                draft.elementwise(axes if rng.random() < 0.7 else axes[: rng.randint(1, len(axes))], False)
            for _ in range(rng.choice((1, 1, 2))):
                draft.elementwise(axes, True)
        case "rows":
            kept = [draft.axis() for _ in range(rng.randint(1, 2))]
            reduced = [draft.axis() for _ in range(rng.choice((1, 1, 2)))]
            draft.reduction(kept, reduced, rng.random() < 0.5)
            if not draft.outputs or rng.random() < 0.5:
                draft.elementwise(kept if rng.random() < 0.4 else [*kept, *reduced], True)
        case "chain":
            kept, reduced = [draft.axis()], [draft.axis()]
            for _ in range(rng.randint(1, 2)):
                draft.reduction(kept, reduced, rng.random() < 0.2)
            if rng.random() < 0.5:
                draft.elementwise([*kept, *reduced], rng.random() < 0.3)
            if rng.random() < 0.6:
                flipped = rng.random() < 0.3
                draft.reduction(reduced if flipped else kept, kept if flipped else reduced, rng.random() < 0.5)
            draft.elementwise([*kept, *reduced], True)
        case "contraction":
            draft = Draft(rng, "float", "i32")
            kept = draft.contraction(rng.random() < 0.3)
            if draft.outputs and rng.random() < 0.5:
                pass
            elif rng.random() < 0.25:
                draft.reduction(kept[:-1], kept[-1:], rng.random() < 0.5)
                draft.elementwise(kept, True)
            else:
                draft.elementwise(kept, True)
        case "scan":
            axes = [draft.axis() for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.3:
                draft.elementwise(axes, False)
            draft.scan(axes, rng.random() < 0.6)
            if rng.random() < 0.3:
                draft.scan(axes, rng.random() < 0.6)
            if len(axes) > 1 and rng.random() < 0.3:
                draft.reduction(axes[:1], axes[1:], True)
            elif not draft.outputs or rng.random() < 0.4:
                draft.elementwise(axes, True)
        case "stencil":
            _stencil(draft)
    if not draft.outputs:
        draft.elementwise(list(draft.extents), True)
    return _renamed(draft.text(), rng) if rng.random() < 0.12 else draft.text()


def _renamed(text: str, rng: random.Random) -> str:
    """The same algorithm with names that generated code would like to have for itself."""
    pool = list(NAMES)
    rng.shuffle(pool)
    old = sorted(set(re.findall(r"\b(?:[xyf][0-9]|[i-t]|[A-Z])\b", text)))
    names = dict(zip(rng.sample(old, len(old) // 2), pool, strict=False))
    return re.sub(r"\b(?:[xyf][0-9]|[i-t]|[A-Z])\b", lambda found: names.get(found[0], found[0]), text)


def _stencil(draft: Draft) -> None:
    """One or two windows over the last axes, with a boundary, a step and a dilation."""
    rng = draft.rng
    outer = [draft.axis()] if rng.random() < 0.4 else []
    i, j = draft.axis(rng.choice(("H", 9))), draft.axis(rng.choice(("W", 12)))
    taps = [draft.axis(rng.choice((2, 3, 5))) for _ in range(rng.choice((1, 1, 2)))]
    source = draft.declare([*outer, i, j], rng.choice(TYPES[draft.kind]))
    for stage in range(rng.choice((1, 1, 2))):
        step = rng.choice((1, 1, 2))
        moved = [
            f"{a} + {t} * {step} - {rng.randint(0, 2)}"
            for a, t in zip(rng.sample([i, j], len(taps)), taps, strict=True)
        ]
        index = {text[0]: text.replace(" * 1", "").replace(" - 0", "") for text in moved}
        view = rng.choice(VIEWS[:1] + VIEWS[2:])
        read = f"{source.name}.{view}[{', '.join(index.get(a, a) for a in source.axes)}]"
        value = draft.as_word(read, draft.kind)
        if rng.random() < 0.4:
            weight = draft.declare(taps, rng.choice(TYPES[draft.kind]))
            value = f"{value} * {draft.as_word(draft.read_plain(weight), draft.kind)}"
        axes = [*outer, i, j]
        where = f", where={draft.condition([*axes, *taps])}" if rng.random() < 0.15 else ""
        left = draft.define(axes, output := (stage == 1 or rng.random() < 0.5))
        over = f"({', '.join(taps)})" if len(taps) > 1 else taps[0]
        new = draft.sources.pop(draft.sources.index(next(s for s in draft.sources if s.name == left.partition("[")[0])))
        op = rng.choice(("sum", "sum", "max", "min"))
        draft.lines.append(f"{left} = te.{op}({draft.matched(value, axes)}, over={over}{where})")
        draft.sources.append(new)
        source = new
        if output and rng.random() < 0.5:
            break
