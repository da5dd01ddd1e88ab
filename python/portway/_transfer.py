"""Transfers, and the other jobs of an engine, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from . import _errors
from ._native import Job
from ._reports import Outcome, Progress, read

_T = TypeVar("_T")
# How long a transfer may take to become resumable after Ctrl-C. The engine grants itself 20 s.
_STOPPING_S = 25.0


class Work(Generic[_T]):
    """Something that runs beside the caller and ends with a report. Internal base."""

    def __init__(self, job: Job, finish: Callable[[str], _T]) -> None:
        self._job = job
        self._finish = finish

    def done(self) -> bool:
        """Whether it has ended, well or badly."""
        return self._job.done()

    def cancel(self) -> None:
        """Stops it and returns at once. A transfer keeps what has arrived, and `wait` raises
        `StoppedError`; the same call later goes on from there."""
        self._job.interrupt()

    def wait(self, timeout: float | None = None) -> _T:
        """Waits for the end, at most `timeout` seconds, without holding the GIL.

        Ctrl-C (`KeyboardInterrupt`) cancels it, resumably, before it is raised.

        Raises:
            TimeoutError: It goes on.
            Error: See there.
        """
        try:
            report = self._job.wait(timeout)
        except KeyboardInterrupt:
            self._stop()
            raise
        if report is None:
            raise TimeoutError(f"not ended within {timeout} s; it goes on")
        return self._finish(report)

    def _stop(self) -> None:
        self._job.interrupt()
        try:
            self._job.wait(_STOPPING_S)
        except _errors.Error:
            pass  # That it was stopped; the interrupt is what the caller must see.

    def __await__(self) -> Generator[Any, None, _T]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> _T:
        """The same for asyncio: no thread waits. Cancelling the task cancels the work."""
        if not self._job.done():
            loop = asyncio.get_running_loop()
            ended: asyncio.Future[None] = loop.create_future()
            # A descriptor of its own, so that several tasks may wait for the same work.
            ready = os.dup(self._job.fileno())

            def note() -> None:
                if not ended.done():
                    ended.set_result(None)

            loop.add_reader(ready, note)
            try:
                await ended
            except asyncio.CancelledError:
                self._job.interrupt()
                raise
            finally:
                loop.remove_reader(ready)
                os.close(ready)
        return self.wait()


def finish(job: Job) -> None:
    """Waits for a job that reports nothing."""
    Work(job, lambda _: None).wait()


class Transfer(Work[Outcome]):
    """A push or pull under way. It goes on if this object is dropped; it ends with its engine.

    Wait for it with `wait()`, or with `await` in asyncio, where cancelling the task cancels it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job, _outcome)

    def progress(self) -> Progress:
        """The counters now. Cheap: they can be read ten times a second."""
        counters = self._job.progress()
        assert counters is not None, "the job of a transfer counts"
        return read(Progress, counters)

    def updates(self, interval_s: float = 0.2) -> Iterator[Progress]:
        """The counters every `interval_s` seconds, and once more at the end.

        Does not raise what the transfer ended with: `wait()` does.
        """
        while True:
            try:
                report = self._job.wait(interval_s)
            except KeyboardInterrupt:
                self._stop()
                raise
            except _errors.Error:
                break
            if report is not None:
                break
            yield self.progress()
        yield self.progress()

    def follow(self, bar: Any, interval_s: float = 0.2) -> Outcome:
        """Waits for the end and moves a progress bar, in bytes: `t.follow(tqdm(unit="B",
        unit_scale=True))`. Any object with `total`, `n` and `refresh()` will do."""
        for progress in self.updates(interval_s):
            bar.total = progress.bytes_total
            bar.n = progress.bytes_done
            bar.refresh()
        return self.wait()


def _outcome(report: str) -> Outcome:
    outcome = read(Outcome, report)
    if outcome.failed:
        raise _errors.partial(outcome)
    return outcome
