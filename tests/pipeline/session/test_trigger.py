"""Whether something is recorded: as was ordered last, also while the recorder thread is behind."""

from __future__ import annotations

import itertools

import pytest

from clesr.pipeline.session.preroll import Trigger


@pytest.mark.parametrize("orders", list(itertools.product([True, False], repeat=3)))
def test_what_was_ordered_last_counts_until_it_is_carried_out(orders: tuple[bool, ...]) -> None:
    trigger = Trigger(armed=False)
    for order in orders:
        trigger.order(order)
    for done, order in enumerate(orders, 1):
        trigger.take_up()
        trigger.found(not order)
        if done < len(orders):
            assert trigger.recording is orders[-1]
            trigger.rest()
            assert trigger.armed is any(orders)
    assert trigger.recording is not orders[-1], "all is carried out: what the thread found counts"
    trigger.rest()
    assert not trigger.armed
