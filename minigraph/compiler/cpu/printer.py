"""A loop nest written as LLVM IR.

A kernel has the signature `i32 (ptr bases, ptr parameters, i64 part, i64 parts)`. Operand k lies at `bases[parameters[2k]] +
parameters[2k + 1]` bytes; sizes and strides follow. It computes its `part` of the kept axis that is split. The result is 0, or
1 where an index was outside. The loops stand in a function of their own, whose pointers are known not to overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.scalar_printer import LLVMWriter, llvm_type
from minigraph.compiler.loops.nest import Apply, Fold, Gather, Literal, Load, LoopNest, Scatter, Store
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.scalar.namespace import SCALARS, applied
from minigraph.compiler.scalar.scalar import INT64, DType, Value, select

COLUMNS = 16
"""Parts of a kernel that folds columns get a multiple of so many."""

WIDTH = 256
"""How many columns are folded at once, where the innermost axis is kept."""

AHEAD, FEW_WRITTEN, CACHE_LINE = 2, 3, 64
"""How many rows of columns ahead memory is asked for; so few operands may be written to that it is asked for theirs, too; and
bytes that come at once.
"""

PIECE = 1024
"""How many elements are stored before they are folded, where slow values are: they stay in the first cache."""


def memory_type(dtype: DType) -> str:
    """The LLVM type of an element in memory, where a boolean takes a byte."""
    return "i8" if dtype.kind == "b" else llvm_type(dtype)


class Printer:
    """Writes the loops of one nest."""

    def __init__(self, nest: LoopNest) -> None:
        self.nest = nest
        self.writer = LLVMWriter()
        self.level, self.full = nest.levels(), nest.is_full()
        self.axes = len(nest.folded)
        self.kept = [axis for axis, fold in enumerate(nest.folded) if not fold]
        self.folds = [axis for axis, fold in enumerate(nest.folded) if fold]
        if nest.by_column:
            self.kept.pop()
        self.places: list[str] = [f"%p{k}" for k in range(len(nest.operands))]
        self.index: dict[int, str] = {}
        self.kept_values: dict[int, Value] = {}
        self.spilled: dict[int, str] = {}
        self.variables: list[str] = []
        self.column = ""
        self.stage = 0
        self.written = {store.node: store.operand for store in nest.stores if self.full[store.node]}
        self.inner = {store for store in nest.stores if nest.is_inner(store)}
        self.accumulators = {
            k: Accumulator(node.op, self.nest.dtype_of(node.argument))
            for k, node in enumerate(nest.nodes)
            if isinstance(node, Fold)
        }
        self.picks = 2 * len(nest.operands) + self.axes * (1 + len(nest.operands))
        self.pick_of: dict[Any, int] = {}
        for user in (*nest.nodes, *nest.scatters):
            if isinstance(user, Gather | Scatter):
                self.pick_of[user] = self.picks
                self.picks += 2 * len(user.indices)

    # -- loops -------------------------------------------------------------------------------------------------------

    @contextmanager
    def along(self, axis: int, start: str, stop: str) -> Iterator[None]:
        """A loop along one axis, within which the places of the operands follow."""
        with self.writer.loop(start, stop) as counter:
            before = self.places
            self.places = [self.moved(k, axis, counter) for k in range(len(before))]
            self.index[axis] = counter
            yield
            self.places = before

    def moved(self, operand: int, axis: int, count: str) -> str:
        """The place of an operand so many steps along an axis."""
        access, place = self.nest.operands[operand], self.places[operand]
        stride = access.strides[axis]
        if stride == 0:
            return place
        distance = count if stride == 1 else self.writer.let(f"mul nsw i64 {count}, {self.stride(operand, axis)}")
        if not access.in_memory:
            return self.writer.let(f"add nsw i64 {place}, {distance}")
        return self.writer.let(f"getelementptr inbounds {memory_type(access.dtype)}, ptr {place}, i64 {distance}")

    def size(self, axis: int) -> str:
        """The size of an axis."""
        return f"%size{axis}"

    def stride(self, operand: int, axis: int) -> str:
        """The stride of an operand along an axis, in elements."""
        return self.parameter(2 * len(self.nest.operands) + self.axes * (1 + operand) + axis)

    def parameter(self, position: int) -> str:
        """A word of the parameters, read where the function begins."""
        return f"%word{position}"

    # -- values ------------------------------------------------------------------------------------------------------

    def load(self, operand: int) -> Value:
        """An element of an operand, or its position."""
        access, place = self.nest.operands[operand], self.places[operand]
        if not access.in_memory:
            return Value(self.writer, place, INT64)
        text = self.writer.let(f"load {memory_type(access.dtype)}, ptr {place}, align {access.dtype.itemsize}")
        if access.dtype.kind == "b":
            text = self.writer.let(f"icmp ne i8 {text}, 0")
        return Value(self.writer, text, access.dtype)

    def store(self, value: Value, place: str) -> None:
        """Write an element."""
        text = value.text
        if value.dtype.kind == "b":
            text = self.writer.let(f"zext i1 {text} to i8")
        self.writer.write(f"store {memory_type(value.dtype)} {text}, ptr {place}, align {value.dtype.itemsize}")

    def compute(self, node: int, known: dict[int, Value]) -> Value:
        """The value of a node, given those that are known where the code is being written; new ones are added to them."""
        value: Value = self.nest.evaluate(node, known, self._ready, self._apply)
        return value

    def _ready(self, node: int) -> Value | None:
        """A value that needs no computation here: a literal, or one that was computed and kept in an earlier loop."""
        what = self.nest.nodes[node]
        if isinstance(what, Literal):
            return self.writer.constant(what.value, what.dtype)
        if node in self.kept_values:
            return self.kept_values[node]
        if node in self.spilled:
            return self._read_spilled(self.spilled[node], self.nest.dtype_of(node))
        if node in self.written and self.level[node] < self.stage:
            return self.load(self.written[node])
        return None

    def _apply(self, node: int, arguments: list[Value]) -> Value:
        """What a node makes of its arguments."""
        match self.nest.nodes[node]:
            case Load(operand):
                return self.load(operand)
            case Gather(operand, _, dtype) as gather:
                place = self.picked(gather, operand, arguments)
                return self._element(place, dtype)
            case Apply(op, _, _) if op.requires is not None:
                self.note(arguments[op.requires] ^ True)
                return arguments[0]
            case Apply(op, _, dtype):
                self.writer.freedom = "" if op.rounds_alone else " contract"
                return applied(op, SCALARS, arguments, dtype)
        raise AssertionError("a fold is no expression")

    def _element(self, place: str, dtype: DType) -> Value:
        """The element at an address."""
        text = self.writer.let(f"load {memory_type(dtype)}, ptr {place}, align {dtype.itemsize}")
        return Value(self.writer, self.writer.let(f"icmp ne i8 {text}, 0") if dtype.kind == "b" else text, dtype)

    def picked(self, user: Any, operand: int, indices: list[Value]) -> str:
        """The address that indices pick, negative ones counted from the end; one outside is noted, and 0 taken."""
        place = self.places[operand]
        for k, index in enumerate(indices):
            size, stride = (self.parameter(self.pick_of[user] + 2 * k + part) for part in (0, 1))
            wide = index.astype(INT64)
            wrapped = select(wide < 0, wide + Value(self.writer, size, INT64), wide)
            outside = (wrapped < 0) | (wrapped >= Value(self.writer, size, INT64))
            self.note(outside)
            inside = select(outside, 0, wrapped)
            distance = self.writer.let(f"mul nsw i64 {inside.text}, {stride}")
            element = memory_type(self.nest.operands[operand].dtype)
            place = self.writer.let(f"getelementptr {element}, ptr {place}, i64 {distance}")
        return place

    def note(self, failure: Value) -> None:
        """Remember a failure, if this is one."""
        noted = self.writer.let("load i32, ptr %failed, align 4")
        flag = self.writer.let(f"zext i1 {failure.text} to i32")
        self.writer.write(f"store i32 {self.writer.let(f'or i32 {noted}, {flag}')}, ptr %failed, align 4")

    # -- columns that are folded at once -----------------------------------------------------------------------------

    @contextmanager
    def columns(self) -> Iterator[None]:
        """A loop over the columns of a block; nothing where rows are folded one by one."""
        if not self.nest.by_column:
            yield
            return
        with self.writer.loop("0", "%columns") as counter:
            before, axis = self.places, self.axes - 1
            self.places = [self.moved(k, axis, counter) for k in range(len(before))]
            self.column = counter
            yield
            self.places = before

    def _slot(self, name: str, dtype: DType) -> str:
        """The place on the stack of a variable of the current column."""
        if not self.nest.by_column:
            return name
        return self.writer.let(f"getelementptr inbounds {memory_type(dtype)}, ptr {name}, i64 {self.column}")

    def _read_spilled(self, name: str, dtype: DType) -> Value:
        """A variable on the stack."""
        return self._element(self._slot(name, dtype), dtype)

    def _spill(self, node: int, value: Value) -> None:
        """Keep the value of a node for later loops over the columns."""
        name = self._variable(value.dtype)
        self.spilled[node] = name
        self.store(value, self._slot(name, value.dtype))

    def _variable(self, dtype: DType) -> str:
        """A variable on the stack, one for each column."""
        name = "%" + self.writer.fresh("stack")
        count = WIDTH if self.nest.by_column else 1
        self.variables.append(f"  {name} = alloca [{count} x {memory_type(dtype)}], align 64")
        return name

    # -- stages ------------------------------------------------------------------------------------------------------

    def point(self) -> None:
        """Everything for one point (or one block) of the kept axes: the stages, and what stands between them."""
        self.kept_values, self.spilled = {}, {}
        folds = [k for k, node in enumerate(self.nest.nodes) if isinstance(node, Fold)]
        stage_of = {k: self.level[k] - 1 for k in folds}
        last = max([*stage_of.values(), *(self.level[s.node] for s in self.inner)], default=-1)
        last = max([last, *(self.level[s.node] for s in self.nest.scatters if self.full[s.node])])
        endings = [[k for k in folds if stage_of[k] == stage] for stage in range(last + 1)]
        self._between(0, [], endings[0] if endings else [])
        for stage, ending in enumerate(endings):
            self.stage = stage
            if self._folds_what_is_stored(stage, ending):
                self._nested(self.folds[:-1], partial(self._piece_by_piece, stage, ending))
            else:
                self._nested(self.folds, partial(self._body, stage, ending))
            self._between(stage + 1, ending, endings[stage + 1] if stage < last else [])

    def _nested(self, axes: Sequence[int], body: Callable[[], None]) -> None:
        """Loops along `axes`, and along the columns, around a body."""
        if axes:
            with self.along(axes[0], "0", self.size(axes[0])):
                if len(axes) == 1 and self.nest.by_column:
                    self._fetch(axes[0])
                self._nested(axes[1:], body)
        else:
            body()

    def _fetch(self, axis: int) -> None:
        """Ask for a row of columns before it is needed: memory that lies in pieces is not foreseen in time by the processor."""
        many = len({one.operand for one in self.inner}) > FEW_WRITTEN
        for k in self._apart(axis):
            written = [self.level[one.node] for one in self.inner if one.operand == k]
            if min(written, default=0) != self.stage or (written and many):
                continue
            dtype = self.nest.operands[k].dtype
            distance = self.writer.let(f"mul nsw i64 {self.stride(k, axis)}, {AHEAD}")
            row = self.writer.let(f"getelementptr {memory_type(dtype)}, ptr {self.places[k]}, i64 {distance}")
            with self.writer.loop("0", "%columns", str(CACHE_LINE // dtype.itemsize)) as column:
                place = self.writer.let(f"getelementptr {memory_type(dtype)}, ptr {row}, i64 {column}")
                self.writer.write(f"call void @llvm.prefetch.p0(ptr {place}, i32 {int(bool(written))}, i32 2, i32 1)")
                self.writer.declarations["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None

    def _apart(self, axis: int) -> list[int]:
        """The operands whose columns lie side by side, and whose rows along an axis lie apart."""
        operands = enumerate(self.nest.operands)
        return [k for k, one in operands if one.in_memory and one.strides[-1] == 1 and one.strides[axis] != 0]

    def _begin(self, ending: list[int]) -> None:
        """Set the folds of a stage to their initial state."""
        for k in ending:
            one = self.accumulators[k]
            one.slots = [self._variable(dtype) for dtype in one.state]
            for name, value in zip(one.slots, one.initial(self.writer), strict=True):
                self.store(value, self._slot(name, value.dtype))

    def _body(self, stage: int, ending: list[int]) -> None:
        """One element of a stage, or one of each column: what it adds to the folds, and what it stores."""
        with self.columns():
            known: dict[int, Value] = {}
            if not (self.nest.by_column and self._widens(ending) and self._is_slow(stage, ending)):
                self._add(ending, known)
                self._write(stage, known)
                return
            buffers: dict[int, str] = {}
            for argument in dict.fromkeys(one for k in ending for one in self.nest.arguments_of(k)):
                value = self.compute(argument, known)
                buffers[argument] = self._variable(value.dtype)
                self.store(value, self._slot(buffers[argument], value.dtype))
            self._write(stage, known)
        with self.columns():
            self._add(ending, {one: self._read_spilled(name, self.nest.dtype_of(one)) for one, name in buffers.items()})

    def _widens(self, ending: list[int]) -> bool:
        """Whether folds add up in wider floats, for which LLVM would compute in fewer lanes."""
        return bool(ending) and all(
            one.state[0].itemsize > one.dtype.itemsize for one in (self.accumulators[k] for k in ending)
        )

    def _is_slow(self, stage: int, ending: list[int]) -> bool:
        """Whether what a stage folds or stores takes long to compute."""
        pending = [one for k in ending for one in self.nest.arguments_of(k)]
        pending += [one.node for one in self.nest.stores if one in self.inner and self.level[one.node] == stage]
        seen: set[int] = set()
        while pending:
            current = pending.pop()
            node = self.nest.nodes[current]
            if current in seen or not self.full[current] or (current in self.written and self.level[current] < stage):
                continue
            if isinstance(node, Apply) and node.op.cost > 1:
                return True
            seen.add(current)
            pending += self.nest.arguments_of(current)
        return False

    def _add(self, ending: list[int], known: dict[int, Value]) -> None:
        """Add an element to the folds of a stage."""
        for k in ending:
            node, one = self.nest.nodes[k], self.accumulators[k]
            assert isinstance(node, Fold)
            x = self.compute(node.argument, known)
            slots = [self._slot(name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
            state = [self._element(slot, dtype) for slot, dtype in zip(slots, one.state, strict=True)]
            position = Value(self.writer, self.index[self.folds[-1]] if self.folds else "0", INT64)
            for slot, value in zip(slots, one.add(state, x, position), strict=True):
                self.store(value, slot)

    def _write(self, stage: int, known: dict[int, Value]) -> None:
        """Store an element of what a stage computes."""
        self._store_all([s for s in self.nest.stores if s in self.inner and self.level[s.node] == stage], known)
        for add in self.nest.scatters:
            if self.full[add.node] and self.level[add.node] == stage:
                self._scatter(add, known)

    def _folds_what_is_stored(self, stage: int, ending: list[int]) -> bool:
        """Whether a stage folds, in wider floats, nothing but slow values that it stores.

        LLVM would compute them in as few lanes as the wider floats need.
        """
        stored = {one.node for one in self.nest.stores if one in self.inner and self.level[one.node] == stage}
        slow = {k for k in stored if isinstance(node := self.nest.nodes[k], Apply) and node.op.cost > 1}
        folded = {one for k in ending for one in self.nest.arguments_of(k)}
        return folded <= slow and self._widens(ending) and not self.nest.by_column

    def _piece_by_piece(self, stage: int, ending: list[int]) -> None:
        """The innermost loop of a stage: a piece is stored, then read again from the cache, and folded."""
        axis = self.folds[-1]
        with self.writer.loop("0", self.size(axis), str(PIECE)) as start:
            beyond = self.writer.let(f"add nsw i64 {start}, {PIECE}")
            whole = self.writer.let(f"icmp slt i64 {beyond}, {self.size(axis)}")
            stop = self.writer.let(f"select i1 {whole}, i64 {beyond}, i64 {self.size(axis)}")
            with self.along(axis, start, stop):
                self._write(stage, {})
            self.stage = stage + 1  # what was stored can be read
            with self.along(axis, start, stop):
                self._add(ending, {})
            self.stage = stage

    def _between(self, level: int, ended: list[int], beginning: list[int]) -> None:
        """What does not vary along the folded axes, and is there only now: results of folds, what they lead to, new folds."""
        stores = [s for s in self.nest.stores if s not in self.inner and self.level[s.node] == level]
        scatters = [s for s in self.nest.scatters if not self.full[s.node] and self.level[s.node] == level]
        wanted = [k for k in range(len(self.nest.nodes)) if self._is_kept(k, level)]
        if not (stores or scatters or wanted or ended or beginning):
            return
        with self.columns():
            known: dict[int, Value] = {}
            for k in ended:
                one = self.accumulators[k]
                state = [self._read_spilled(name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
                known[k] = one.result(state, self.nest.dtype_of(k))
            self._store_all(stores, known)
            for add in scatters:
                self._scatter(add, known)
            for k in dict.fromkeys([*ended, *wanted]):
                value = self.compute(k, known)
                if self.nest.by_column:
                    self._spill(k, value)
                else:
                    self.kept_values[k] = value
            self._begin(beginning)

    def _store_all(self, stores: Sequence[Store], known: dict[int, Value]) -> None:
        """Store values, all of them computed first: a store may write over what another value is computed from."""
        values = [self.compute(store.node, known) for store in stores]
        for store, value in zip(stores, values, strict=True):
            self.store(value, self.places[store.operand])

    def _is_kept(self, node: int, level: int) -> bool:
        """Whether a node, computed at this level, is needed inside of later loops."""
        if self.full[node] or self.level[node] != level or isinstance(self.nest.nodes[node], Literal | Fold):
            return False
        if isinstance(self.nest.nodes[node], Load) and self.nest.by_column:
            return False
        return node in self._used_later

    def _find_used_later(self) -> set[int]:
        """The nodes that do not vary along the folded axes, but are used where something does, or in a later stage."""
        used = set()
        for k in range(len(self.nest.nodes)):
            for one in self.nest.arguments_of(k):
                if not self.full[one] and (self.full[k] or self.level[k] != self.level[one]):
                    used.add(one)
        used.update(store.node for store in self.inner if not self.full[store.node])
        for add in self.nest.scatters:
            used.update(one for one in add.indices if not self.full[one] and self.full[add.node])
        return used

    def _scatter(self, add: Scatter, known: dict[int, Value]) -> None:
        """Write, or add, an element where indices pick."""
        value = self.compute(add.node, known)
        place = self.picked(add, add.operand, [self.compute(one, known) for one in add.indices])
        if not add.replaces:
            value = self._element(place, value.dtype) + value
        self.store(value, place)

    # -- the functions -----------------------------------------------------------------------------------------------

    def text(self, name: str) -> str:
        """The IR of the kernel under a name."""
        self._used_later = self._find_used_later()
        writer = self.writer
        first, rest = (self.kept[0], self.kept[1:]) if self.kept else (None, [])
        blocks = self.nest.by_column
        split = self.size(first) if first is not None else self.size(self.axes - 1) if blocks else None
        start, stop = ("%start", "%stop") if split else ("0", "0")
        with self._each_kept(first, rest, start, stop):
            if blocks:
                self._blocks("%start" if first is None else "0", "%stop" if first is None else self.size(self.axes - 1))
            else:
                self.point()
        status = self._status()
        return "\n".join([*writer.declarations, *self._function(name, split, status)])

    def _status(self) -> list[str]:
        """The end of the function."""
        if not self.nest.fails:
            return ["  ret i32 0"]
        return ["  %status = load i32, ptr %failed, align 4", "  ret i32 %status"]

    @contextmanager
    def _each_kept(self, first: int | None, rest: list[int], start: str, stop: str) -> Iterator[None]:
        """Loops along the kept axes, the first of them over this part."""
        if first is None:
            yield
            return
        with self.along(first, start, stop):
            if rest:
                with self._each_kept(rest[0], rest[1:], "0", self.size(rest[0])):
                    yield
            else:
                yield

    def _blocks(self, start: str, stop: str) -> None:
        """A loop over blocks of columns."""
        axis, writer = self.axes - 1, self.writer
        with self.writer.loop(start, stop, str(WIDTH)) as block:
            writer.write(f"%first = add nsw i64 {block}, 0")
            remaining = writer.let(f"sub nsw i64 {stop}, {block}")
            full = writer.let(f"icmp slt i64 {remaining}, {WIDTH}")
            writer.write(f"%columns = select i1 {full}, i64 {remaining}, i64 {WIDTH}")
            before = self.places
            self.places = [self.moved(k, axis, "%first") for k in range(len(before))]
            self.point()
            self.places = before

    def _bounds(self, size: str, unit: int) -> Iterator[str]:
        """The first and the last of this part, in whole units but for the end."""
        yield f"  %rounded = add nsw i64 {size}, {unit - 1}"
        yield f"  %units = sdiv i64 %rounded, {unit}"
        yield "  %following = add nsw i64 %part, 1"
        for bound, part in (("start", "%part"), ("stop", "%following")):
            yield f"  %{bound}.product = mul nsw i64 %units, {part}"
            yield f"  %{bound}.units = sdiv i64 %{bound}.product, %parts"
            yield f"  %{bound}.wide = mul nsw i64 %{bound}.units, {unit}"
            yield f"  %{bound}.beyond = icmp sgt i64 %{bound}.wide, {size}"
            yield f"  %{bound} = select i1 %{bound}.beyond, i64 {size}, i64 %{bound}.wide"

    def _function(self, name: str, split: str | None, status: list[str]) -> Iterator[str]:
        """The function of the loops, and the kernel that calls it."""
        nest, count = self.nest, len(self.nest.operands)
        pointers = [f"{'ptr noalias' if access.in_memory else 'i64'} %p{k}" for k, access in enumerate(nest.operands)]
        arguments = ", ".join([*pointers, "ptr noalias %parameters", "i64 %part", "i64 %parts"])
        yield f"define internal i32 @{name}.loops({arguments}) #0 {{"
        yield "entry:"
        yield from self.variables
        words = range(2 * count, self.picks)
        for position in words:
            yield f"  %at{position} = getelementptr inbounds i64, ptr %parameters, i64 {position}"
            yield f"  %word{position} = load i64, ptr %at{position}, align 8"
        for axis in range(self.axes):
            yield f"  %size{axis} = add nsw i64 %word{2 * count + axis}, 0"
        if split:
            yield from self._bounds(split, COLUMNS if nest.by_column and not self.kept else 1)
        if nest.fails:
            yield "  %failed = alloca i32, align 4"
            yield "  store i32 0, ptr %failed, align 4"
        yield from self.writer.lines
        yield from status
        yield "}"
        yield f"define i32 @{name}(ptr %bases, ptr %parameters, i64 %part, i64 %parts) {{"
        for k, access in enumerate(nest.operands):
            yield f"  %slot{k}.at = getelementptr inbounds i64, ptr %parameters, i64 {2 * k}"
            yield f"  %slot{k} = load i64, ptr %slot{k}.at, align 8"
            yield f"  %offset{k}.at = getelementptr inbounds i64, ptr %parameters, i64 {2 * k + 1}"
            yield f"  %offset{k} = load i64, ptr %offset{k}.at, align 8"
            if access.in_memory:
                yield f"  %base{k}.at = getelementptr inbounds ptr, ptr %bases, i64 %slot{k}"
                yield f"  %base{k} = load ptr, ptr %base{k}.at, align 8"
                yield f"  %p{k} = getelementptr inbounds i8, ptr %base{k}, i64 %offset{k}"
        given = [f"ptr %p{k}" if access.in_memory else f"i64 %offset{k}" for k, access in enumerate(nest.operands)]
        yield f"  %status = call i32 @{name}.loops({', '.join([*given, 'ptr %parameters', 'i64 %part', 'i64 %parts'])})"
        yield "  ret i32 %status"
        yield "}"


def module_text(texts: Sequence[str]) -> str:
    """A module of kernels, given their texts."""
    declarations = dict.fromkeys(line for text in texts for line in text.splitlines() if line.startswith("declare"))
    bodies = ["\n".join(line for line in text.splitlines() if not line.startswith("declare")) for text in texts]
    attributes = f'attributes #0 = {{ noinline nounwind "prefer-vector-width"="{8 * register_bytes()}" }}'
    return "\n".join([*declarations, *bodies, attributes])


def kernel_text(nest: LoopNest, name: str) -> str:
    """The LLVM IR of a loop nest."""
    return Printer(nest).text(name)
