"""What is planned about loop nests: groups, donation, sub-buffers, and the nests themselves, as text."""

from __future__ import annotations

import minigraph as mg
from minigraph.compiler.cpu.stage_shape import StageShape
from minigraph.compiler.loops.donation import overwrite
from minigraph.compiler.loops.fusion import Grouping, spread
from minigraph.compiler.loops.lower import Builder
from minigraph.compiler.loops.nest import Fold, describe
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.loops.scheduled import ScheduledNest
from minigraph.compiler.loops.subbuffers import parts_in_place
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.layout import layouts_of, sizes
from minigraph.printing import Names, graph_lines
from support.golden import assert_golden, graph, tensor


class Planned:
    """A graph of known sizes with what is planned of it, and the names that its text gives."""

    def __init__(self, inputs, *outputs, new=()):
        self.graph = insert_copies(graph(inputs, *outputs))
        self.names = Names()
        self.text = list(graph_lines(self.graph, self.names, origins=False))
        self.layouts = layouts_of(self.graph)
        self.grouping = Grouping(self.graph, self.layouts, [self.graph.outputs[k] for k in new])

    def groups(self, groups=None):
        """A line for each group: its space, what it folds, its members, those in memory with a star."""
        for group in self.grouping.groups if groups is None else groups:
            members = [f"{self.names.of(one)}{'*' * (one in self.grouping.stored)}" for one in group.members]
            folds = f" folding {sorted(group.folded)}" if group.folded else ""
            yield f"group over {group.space}{folds}: {', '.join(members)}" + " alone" * group.alone

    def donated(self, *wanted):
        """The order of the groups, and what is written over what."""
        order, replaced = overwrite(self.graph, self.grouping, wanted)
        yield from self.groups(order)
        yield from (f"{self.names.of(new)} over {self.names.of(old)}" for new, old in replaced.items())

    def placed(self):
        """Where values are written that are parts of others."""
        for part, place in parts_in_place(self.graph, self.grouping).items():
            yield f"{self.names.of(part)} in {self.names.of(place.storage)} from {place.offset}, strides {place.strides}"


def test_elementwise_work_and_folds_over_one_space_are_one_group():
    x, y = tensor("x", 4, 6), tensor("y", 4, 6)
    planned = Planned([x, y], mg.exp(x - mg.max(x, 1, True)) + y)
    assert_golden("fusion_rows", [*planned.text, *planned.groups()])


def test_what_is_read_otherwise_is_in_memory():
    x, i = tensor("x", 4, 6), tensor("i", 3, dtype="int64")
    planned = Planned([x, i], mg.exp(x)[i] * 2, mg.exp(x.T) + mg.tanh(x).T, mg.sin(x) @ mg.cos(x).T)
    assert_golden("fusion_memory", [*planned.text, *planned.groups()])


def test_cheap_values_are_computed_again():
    x = tensor("x", 512, 4)
    cheap, dear = x * 2 + 1, mg.exp(x)
    planned = Planned([x], cheap.sum(0), mg.tanh(cheap).sum(1), dear.sum(0), mg.tanh(dear).sum(1))
    assert_golden("fusion_repeated", [*planned.text, *planned.groups()])


def test_a_square_that_is_read_transposed_is_in_memory():
    x = tensor("x", 4, 4)
    part = mg.exp(x)
    planned = Planned([x], part + part.T)
    assert_golden("fusion_square", [*planned.text, *planned.groups()])


def test_folds_over_other_axes_are_groups_of_their_own():
    x = tensor("x", 4, 6)
    planned = Planned([x], (x - x.sum(0)).sum(1), mg.argmax(x, 0))
    assert_golden("fusion_apart", [*planned.text, *planned.groups()])


def test_new_state_is_written_over_old_state_when_nothing_reads_that_any_more():
    s, x, i = tensor("s", 4, 6), tensor("x", 4, 6), tensor("i", 2, dtype="int64")
    planned = Planned([s, x, i], s - x * 2, mg.tanh(s.T), x[i], new=[0])
    assert_golden("donation", [*planned.text, *planned.donated((0, 0))])


def test_what_is_read_in_another_order_is_not_written_over():
    s, x = tensor("s", 4, 4), tensor("x", 4, 4)
    planned = Planned([s, x], s.T - x, new=[0])
    assert list(planned.donated((0, 0)))[-1].startswith("group")
    folded = Planned([s, x], s - x.sum(0), new=[0])
    assert list(folded.donated((0, 0)))[-1].startswith("group")
    plain = Planned([s, x], s - x, new=[0])
    assert list(plain.donated((0, 0)))[-1] == "%1 over s"


def test_what_can_fail_comes_before_state_is_written_over():
    s, x, i = tensor("s", 4, 6), tensor("x", 9, 6), tensor("i", 4, dtype="int64")
    picked = Planned([s, x, i], s - x[i], new=[0])
    assert not [line for line in picked.donated((0, 0)) if " over s" in line]


def test_state_that_must_come_before_what_can_fail_is_not_written_over():
    s, x, i = tensor("s", 4, 4), tensor("x", 4, 4), tensor("i", 4, dtype="int64")
    beside = mg.exp(x)
    planned = Planned([s, x, i], s - beside, beside[i] * 2, new=[0])
    assert len(planned.grouping.groups) == 2
    assert not [line for line in planned.donated((0, 0)) if " over s" in line]


def test_parts_are_written_in_place():
    x, y = tensor("x", 2, 3), tensor("y", 4, 3)
    joined = Planned([x, y], mg.concatenate([mg.exp(x), mg.tanh(y), x]))
    assert_golden("subbuffers", [*joined.text, *joined.placed()])
    part = mg.exp(x)
    assert list(Planned([x, y], mg.concatenate([part, y]), mg.tanh(part).sum(0)).placed()) == []
    assert list(Planned([x, y], mg.concatenate([part, part]), y).placed()) == []
    padded = Planned([x], mg.set_subtensor(mg.zeros((4, 5), "float32")[1:3, 1:4], mg.exp(x)))
    assert_golden("subbuffers_padding", [*padded.text, *padded.placed()])


def built(planned, group):
    """The nest of a group, every member that is stored written to memory, its numbers, and names for its operands."""
    builder = Builder(group.space, group.folded or frozenset(), planned.layouts, lambda number, divides: True)
    for variable, axes in group.members.items():
        builder.compute(variable, axes)
    for variable, axes in group.members.items():
        if variable in planned.grouping.stored:
            builder.store(builder.computed[variable], planned.layouts[variable], variable.dtype, axes)
    return *builder.build(), [planned.names.of(place.storage).replace("%", "m") for place in builder.places]


def nest(planned, group):
    """The text of that nest."""
    made, bindings, names = built(planned, group)
    yield f"axes {['fold' if fold else 'keep' for fold in made.folded]}, classes {[one.strides for one in made.operands]}"
    yield from describe(made, bindings, names)


def test_a_group_becomes_a_nest():
    x, y, i = tensor("x", 4, 6), tensor("y", 6), tensor("i", 4, dtype="int64")
    planned = Planned([x, y, i], mg.exp(x - mg.max(x, 1, True)) / y, mg.exp(x + y).sum(0), x[i] + mg.arange(6), x[:, ::-1] * 2)
    lines = [line for group in planned.grouping.groups for line in nest(planned, group)]
    assert_golden("nests", [*planned.text, *lines])


def scheduled(planned):
    """The nests of all groups, and where in their schedules everything takes place."""
    for made, bindings, names in [built(planned, group) for group in planned.grouping.groups]:
        yield from describe(made, bindings, names)
        order = ScheduledNest(made)
        accumulators = {
            k: Accumulator(node.op, made.dtype_of(node.argument)) for k, node in enumerate(made.nodes) if isinstance(node, Fold)
        }
        yield f"parallel {order.parallel}, serial {order.serial}"
        for number, gap in enumerate(order.gaps):
            stores = [f"v{one.node}" for one in gap.stores]
            yield f"gap {number}: ends {gap.ended}, keeps {gap.kept} of {gap.nodes}, stores {stores}, begins {gap.begun}"
            if number < len(order.stages):
                stage, shape = order.stages[number], StageShape(order, accumulators, number)
                yield f"stage {number}: folds {stage.folds}, stores {[f'v{one.node}' for one in stage.stores]}"
                fetched = [each for axis in order.serial[-1:] if made.by_column for each in shape.fetched(axis)]
                yield f"  in pieces: {shape.in_pieces}, buffered: {shape.buffered}, fetched: {fetched}"


def test_a_nest_is_scheduled_in_stages():
    x, scale, y, z, w = tensor("x", 4, 6), tensor("scale", 4, 1), tensor("y", 9, 6), tensor("z", 9, 5), tensor("w", 8, 300)
    total, factor, slow = mg.sum(mg.exp(x), 1, keepdims=True), mg.tanh(scale), mg.tanh(w)
    rows = [mg.exp(x) / total * factor, total * mg.sin(scale)]
    columns = [y - y.sum(0), mg.exp(y).sum(0), mg.max(mg.exp(z), 0)]
    assert_golden("schedule", scheduled(Planned([x, scale, y, z, w], *rows, *columns, slow, slow.sum(1))))


def test_neighbouring_axes_are_joined_where_all_walk_them_in_one_stride():
    x, y = tensor("x", 2, 3, 4), tensor("y", 4)
    whole, part = Planned([x], mg.exp(x)), Planned([x, y], x + y)
    assert [line for group in whole.grouping.groups for line in nest(whole, group)][1] == "for i0 < 24:"
    assert [line for group in part.grouping.groups for line in nest(part, group)][1] == "for i0 < 6, i1 < 4:"


def test_axes_of_size_1_are_none_of_a_space():
    assert spread((2, 1, 3)) == (0, None, 1)
    x = tensor("x", 2, 1, 3)
    (group,) = Planned([x], mg.exp(x)).grouping.groups
    assert group.space == (2, 3)
    assert sizes(x) == (2, 1, 3)
