"""The breaker by itself: when it opens, who may try, and when it closes."""

from __future__ import annotations

import threading

from dicom_node.delivery.breaker import Breaker, BreakerPolicy, BreakerState

POLICY = BreakerPolicy(failures=3, first_s=10, longest_s=35)


def opened() -> Breaker:
    breaker = Breaker(POLICY)
    assert [breaker.failed(0) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(POLICY)
    for _ in range(10):
        assert [breaker.failed(0), breaker.failed(0)] == [False, False]
        assert not breaker.answered()
    assert breaker.permit(0) is BreakerState.CLOSED


def test_one_caller_and_no_other_may_try_when_the_wait_is_over() -> None:
    breaker = opened()
    assert breaker.permit(8.9) is BreakerState.OPEN
    assert [breaker.permit(11.1) for _ in range(3)] == [BreakerState.HALF_OPEN, BreakerState.OPEN, BreakerState.OPEN]
    assert breaker.answered()
    assert (breaker.permit(11.1), breaker.failures) == (BreakerState.CLOSED, 0)


def test_a_trial_that_fails_waits_twice_as_long_up_to_the_longest() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(5):
        waits.append(breaker.next_try_at - now)
        now = breaker.next_try_at
        assert breaker.permit(now) is BreakerState.HALF_OPEN
        assert breaker.failed(now)
    for wait, meant in zip(waits, (10, 20, 35, 35, 35), strict=True):
        assert 0.9 * meant <= wait <= 1.1 * meant


def test_what_was_under_way_when_it_opened_prolongs_nothing() -> None:
    breaker = opened()
    until = breaker.next_try_at
    assert not breaker.failed(1)
    assert breaker.next_try_at == until


def test_a_permit_that_found_nothing_to_try_is_not_lost() -> None:
    breaker = opened()
    assert breaker.permit(11.1) is BreakerState.HALF_OPEN
    breaker.untried()
    assert breaker.permit(11.1) is BreakerState.HALF_OPEN


def test_of_many_threads_one_tries() -> None:
    breaker, got, begin = opened(), [], threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        got.append(breaker.permit(100))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == ["half-open", *["open"] * 7]
