"""Batches: a failure stays with its study, a full device halves, time bounds them."""

from __future__ import annotations

import pytest

from dicom_node.worker.batches import BatchSize, in_batches
from inference.errors import DeviceFull, DeviceLost


class Model:
    """Doubles numbers. Has room for ``room`` at once; ``bad`` it cannot do."""

    def __init__(self, room: int = 100, bad: tuple[int, ...] = ()) -> None:
        self.room, self.bad = room, bad
        self.passes: list[int] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.passes.append(len(items))
        if len(items) > self.room:
            raise DeviceFull("cuda: triage failed (out of memory)")
        if set(items) & set(self.bad):
            raise ValueError("x")
        return [2 * item for item in items]


def test_results_come_in_order_from_full_batches() -> None:
    model = Model()
    found = dict(in_batches(range(20), model, BatchSize(8, 1000)))
    assert found == {n: 2 * n for n in range(20)}
    assert model.passes == [8, 8, 4]


def test_one_that_fails_fails_alone() -> None:
    found = dict(in_batches(range(8), Model(bad=(5,)), BatchSize(8, 1000)))
    assert isinstance(found.pop(5), ValueError)
    assert found == {n: 2 * n for n in range(8) if n != 5}


def test_a_full_device_halves_the_batch_and_it_grows_back_slowly() -> None:
    model, size = Model(room=3), BatchSize(8, 1000)
    assert dict(in_batches(range(8), model, size)) == {n: 2 * n for n in range(8)}
    assert model.passes == [8, 4, 2, 2, 4, 2, 2]
    assert size.limit == 2
    model.room = 100
    for _ in range(32):
        list(in_batches(range(2), model, size))
    assert size.limit == 3
    for _ in range(32 * 5):
        list(in_batches(range(2), model, size))
    assert size.limit == 8


def test_what_does_not_fit_alone_is_told() -> None:
    ((item, error),) = in_batches([1], Model(room=0), BatchSize(8, 1000))
    assert item == 1
    assert isinstance(error, DeviceFull)


def test_a_batch_is_no_longer_than_an_urgent_study_may_wait() -> None:
    size = BatchSize(8, seconds=10)
    size.done(8, 8 * 3.0)
    assert size.limit == 3
    for _ in range(20):
        size.done(1, 60.0)
    assert size.limit == 1
    for _ in range(60):
        size.done(1, 0.01)
    assert size.limit == 8


def test_a_lost_device_ends_it_all() -> None:
    def lost(_items: list[int]) -> list[int]:
        raise DeviceLost("cuda: triage failed")

    with pytest.raises(DeviceLost):
        list(in_batches(range(4), lost, BatchSize(8, 1000)))
