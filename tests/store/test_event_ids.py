from hypothesis import given
from hypothesis import strategies as st

from gradkeel_store import event_ids

FENCES = st.integers(0, 2**20)
NUMBERS = st.integers(0, 2**32 - 10)


@given(FENCES, NUMBERS, NUMBERS)
def test_a_run_is_in_order(fence: int, one: int, other: int) -> None:
    first, last = sorted((one, other))
    assert event_ids.claimed(fence) <= event_ids.step(fence, first) <= event_ids.step(fence, last)
    assert event_ids.step(fence, last) < event_ids.requeued(fence) - 1
    assert event_ids.requeued(fence) < event_ids.ended(fence) - 1
    assert event_ids.ended(fence) < event_ids.claimed(fence + 1)


@given(FENCES, NUMBERS)
def test_an_id_tells_its_run_and_number(fence: int, number: int) -> None:
    event_id = event_ids.step(fence, number)
    assert event_ids.fence_of(event_id) == fence
    assert event_ids.number_of(event_id) == number
    assert 0 < event_id < 2**53
