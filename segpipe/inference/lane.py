"""A thread that does one thing after the other, and says when one of them has failed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable

Task = Callable[[], None]


class Lane:
    """Nothing is done before `start`, and nothing after a task that has raised.

    Args:
        name: of the thread.
        waiting: tasks that may wait, 0: any number.
        fault: told what a task has raised, on the lane's own thread.
    """

    def __init__(self, name: str, waiting: int, fault: Callable[[BaseException], None]) -> None:
        self._tasks: queue.Queue[Task | None] = queue.Queue(waiting)
        self._fault = fault
        self._dropping = False
        # a decoder that hangs must not keep a program alive that was told twice to end
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin with what was given."""
        self._thread.start()

    def offer(self, task: Task) -> bool:
        """Give a task unless the lane is full; says whether it was taken."""
        with contextlib.suppress(queue.Full):
            self._tasks.put_nowait(task)
            return True
        return False

    def give(self, task: Task) -> None:
        """Give a task, after waiting until there is room for it; never waits for long on a lane that has failed."""
        self._tasks.put(task)

    def drop(self) -> None:
        """Let what waits go undone."""
        self._dropping = True

    def close(self) -> None:
        """End the thread after what was given, or after the task in hand where that is to go undone."""
        if self._thread.ident is not None:
            self._tasks.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._dropping:
                self._do(task)
            del task  # and the volumes that it held, before the next one comes

    def _do(self, task: Task) -> None:
        try:
            task()
        except BaseException as error:
            self._dropping = True
            self._fault(error)
