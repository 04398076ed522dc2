"""The function being written: nested blocks of lines, the locals they hold, and where a new local belongs.

A local is defined in the outermost block in which everything it depends on is settled, just before the loop that is
being written there. It is forgotten when a name that it depends on is assigned again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from texpr.aot.ir import Origin
from texpr.dtypes import DType
from texpr.gluon.helpers import Preamble
from texpr.gluon.integers import Symbols
from texpr.gluon.layouts import layout_text, sliced
from texpr.gluon.names import Identifiers
from texpr.gluon.text import Text, wrapped
from texpr.gluon.types import Dialect
from texpr.gluon.values import Values
from texpr.math.intervals import Bounds
from texpr.tile.declarations import Dims, Space
from texpr.tile.layouts import Layout, Nvmma, Operand

INDENT = "    "
WIDTH = 100

_HOISTED = "values that the next loop does not change"


@dataclass(frozen=True, slots=True)
class Line:
    code: str
    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Local:
    """The code of a value (its identifier), and the names whose values it depends on."""

    text: Text
    names: frozenset[str]


@dataclass(slots=True)
class Block:
    """The lines of one loop body, of what stands under a condition, or of the function. ``defines``: names that differ
    from turn to turn of this loop. ``conditional``: nothing is computed before it instead. ``announced``: the comment
    that the last lines stand under."""

    parent: Block | None
    defines: frozenset[str]
    depth: int
    lines: list[Line] = field(default_factory=list)
    locals: dict[Hashable, Local] = field(default_factory=dict)
    announced: str = ""
    conditional: bool = False

    def outwards(self) -> Iterator[Block]:
        block: Block | None = self
        while block is not None:
            yield block
            block = block.parent


@dataclass(frozen=True, slots=True)
class TensorMapName:
    """A tensor map parameter: its identifier, the elements and the box it moves, and their layout in shared memory."""

    identifier: str
    dtype: DType
    box: tuple[int, ...]
    layout: Nvmma


@dataclass(slots=True)
class Function:
    """All state of printing one tile program.

    ``moment`` holds locals of the current statement that read changing memory: they are gone after it. ``origin`` is
    the statement's, stamped on every line. ``variables``, ``buffers`` and ``pointers`` map names of the tile program to
    identifiers; so do ``scalars`` for everything an integer expression can mention, and ``counters`` for loops (by name
    and whether the loop is unrolled: one identifier cannot be both), ``maps`` for tensor maps and ``barriers``.
    ``shapes`` are those of the buffers. ``functions`` are the lines of functions of roles, to stand before this one.
    """

    name: str
    warps: int
    values: Values
    dialect: Dialect
    preamble: Preamble
    identifiers: Identifiers
    block: Block
    moment: dict[Hashable, Text] = field(default_factory=dict)
    origin: Origin | None = None
    variables: dict[str, str] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    pointers: dict[str, str] = field(default_factory=dict)
    maps: dict[str, TensorMapName] = field(default_factory=dict)
    barriers: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, str] = field(default_factory=dict)
    counters: dict[tuple[str, bool], str] = field(default_factory=dict)
    ranges: dict[str, Bounds] = field(default_factory=dict)
    static: frozenset[str] = frozenset()
    parameters: set[str] = field(default_factory=set)
    layouts: dict[Space | Layout, str] = field(default_factory=dict)
    layout_lines: list[str] = field(default_factory=list)
    tile_ranges: dict[int, Bounds] = field(default_factory=dict)
    monoids: dict[int, str] = field(default_factory=dict)
    functions: list[list[Line]] = field(default_factory=list)

    def symbols(self) -> Symbols:
        parameters = frozenset(self.parameters)
        return Symbols(self.scalars, self.ranges, self.static, parameters, self.find, self.preamble.use)

    def define(self, symbol: str, identifier: str, bounds: Bounds, static: bool = False) -> None:
        """Give an integer symbol its identifier and range."""
        self.scalars[symbol] = identifier
        self.ranges[symbol] = bounds
        self.static = self.static | {symbol} if static else self.static - {symbol}
        self.tile_ranges.clear()

    # Lines and locals -----------------------------------------------------------------------------------------------

    def emit(self, code: str) -> None:
        """Append a line to the current block, on several if it is too long."""
        indented = INDENT * self.block.depth + code
        comment = code.startswith("#") or "  # " in code
        for line in (indented if comment else wrapped(indented, WIDTH)).split("\n"):
            self.block.lines.append(Line(line, self.origin))

    def blank(self) -> None:
        """An empty line between phases; superfluous ones are dropped in the end."""
        self.block.lines.append(Line("", None))

    def room(self) -> int:
        """How long an expression may get before it should be cut into locals."""
        return WIDTH - len(INDENT) * self.block.depth - 12

    def home(self, names: frozenset[str]) -> Block:
        """The outermost block whose inner blocks do not change any of ``names``, but inside of any condition."""
        for block in self.block.outwards():
            if block.conditional or not block.defines.isdisjoint(names):
                return block
        return next(block for block in self.block.outwards() if block.parent is None)

    @contextmanager
    def inside(self, home: Block) -> Iterator[None]:
        """Print into ``home`` for a while: before the loop that is being written in it."""
        inner, self.block = self.block, home
        if home is not inner and home.announced != _HOISTED:
            self.blank()
            home.announced = _HOISTED
        yield
        self.block = inner

    def find(self, key: Hashable) -> Text | None:
        if key in self.moment:
            return self.moment[key]
        for block in self.block.outwards():
            if key in block.locals:
                return block.locals[key].text
        return None

    def keep(self, key: Hashable, number: int, text: Text) -> None:
        """Let later uses of ``key``, which depends on what value ``number`` depends on, find its code."""
        if number in self.values.mutable:
            self.moment[key] = text
        else:
            self.remember(key, text, self.values.names[number])

    def remember(self, key: Hashable, text: Text, names: frozenset[str]) -> None:
        """As :func:`keep`, with the names given."""
        self.block.locals[key] = Local(text, names)

    def assigned(self, names: frozenset[str]) -> None:
        """Forget every local that depends on ``names``, which have new values from here on."""
        for block in self.block.outwards():
            stale = [key for key, local in block.locals.items() if not local.names.isdisjoint(names)]
            for key in stale:
                del block.locals[key]

    # Layouts ----------------------------------------------------------------------------------------------------------

    def layout(self, space: Space, dims: Dims) -> str:
        """The layout of a value on ``dims`` of ``space``, in terms of a constant named after the space."""
        return sliced(self.space_name(space), len(space.dims), dims)

    def space_name(self, space: Space) -> str:
        name = self.layouts.get(space)
        if name is None:
            if isinstance(space.layout, Operand) and space.layout.parent not in self.layouts:
                self._declare(space.layout.parent, space.layout.parent, "ACCUMULATOR")
            name = self._declare(space, space.layout, space.name.upper())
            self.layouts.setdefault(space.layout, name)
        return name

    def _declare(self, key: Space | Layout, layout: Layout, wanted: str) -> str:
        name = self.identifiers.fresh(wanted)
        named = {known: text for known, text in self.layouts.items() if not isinstance(known, Space)}
        self.layout_lines.append(f"{INDENT}{name}: gl.constexpr = {layout_text(layout, named)}")
        self.layouts[key] = name
        return name
