"""Reading ahead keeps order, passes errors on, and leaves no thread behind."""

import threading
import time
from collections.abc import Generator, Iterable

import pytest

from airflow_dbhygiene.steps.ahead import ahead


def threads() -> list[threading.Thread]:
    """Give the threads that read ahead."""
    return [thread for thread in threading.enumerate() if thread.name == "dbhygiene-ahead"]


def each(items: Iterable[int | None]) -> Generator[int | None]:
    """Give the items one by one."""
    yield from items


def test_all_items_come_in_order() -> None:
    """Nothing is lost, doubled or swapped, and the end is the end."""
    with ahead(each(range(1000))) as items:
        assert list(items) == list(range(1000))
    assert threads() == []


def test_nothing_is_an_answer_too() -> None:
    """An empty chunk has no batches."""
    with ahead(each(())) as items:
        assert list(items) == []


def test_none_is_an_item() -> None:
    """The end is told apart from any value."""
    with ahead(each([None, 1, None])) as items:
        assert list(items) == [None, 1, None]


def test_an_error_arrives_behind_the_items_before_it() -> None:
    """The reader's error is raised where the items are used, once all earlier ones are."""

    def failing() -> Generator[int]:
        yield 1
        yield 2
        raise OSError("connection lost")

    seen = []
    with pytest.raises(OSError, match="connection lost"), ahead(failing()) as items:
        for item in items:
            seen.append(item)  # noqa: PERF402 - extend would lose what came before the error
    assert seen == [1, 2]
    assert threads() == []


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    """A failed upload must not leave a query running: the source is closed when the context ends."""
    closed = threading.Event()

    def endless() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    source = endless()
    with ahead(source) as items:
        assert next(items) == 1
    assert threads() == []
    assert closed.is_set()


def test_an_error_of_the_user_passes() -> None:
    """What goes wrong with an item is not hidden by the clean-up."""
    with pytest.raises(ValueError, match="disk full"), ahead(each(range(10))) as items:
        next(items)
        raise ValueError("disk full")
    assert threads() == []


def test_it_stays_two_items_ahead() -> None:
    """Memory does not grow with a slow user: two wait, one is in hand."""
    made: list[int] = []

    def counting() -> Generator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with ahead(counting()) as items:
        next(items)
        time.sleep(0.3)
        assert len(made) <= 4
        assert list(items) == list(range(1, 100))
