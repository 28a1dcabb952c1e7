"""Work on several threads that also runs while the interpreter ends.

`concurrent.futures` takes no work once the main thread has ended, and from Python 3.12 on no thread starts by
then; but a thread that is left may still forecast, and so may what `atexit` calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """Do some work for every item; whichever thread is free takes the next.

    The caller is one of the workers, and the only one where no thread starts.

    Args:
        work: Called once for every item.
        items: Taken in order.
        workers: How many threads work at a time, the caller's included.

    Returns:
        The results, in the order of the items.

    Raises:
        BaseException: The first error of `work`; no item is begun after it.
    """
    waiting, lock = iter(range(len(items))), threading.Lock()
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def answer() -> None:
        while not errors:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            try:
                results[number] = work(items[number])
            except BaseException as error:
                errors.append(error)

    others = _started(answer, min(workers, len(items)) - 1)
    try:
        answer()
    except BaseException as error:  # an interruption between two items
        errors.append(error)
    for other in others:
        other.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(items))]


def _started(target: Callable[[], None], count: int) -> list[threading.Thread]:
    """As many threads as start."""
    threads = []
    for _ in range(count):
        thread = threading.Thread(target=target)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or the system has no more
            break
        threads.append(thread)
    return threads
