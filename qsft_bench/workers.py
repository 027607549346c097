"""Workers: tasks go in, results come out as they finish, and a task whose worker was lost is carried out again.

```python
with workers("process", 2) as pool:                     # or ("ray", 64, "ray://head:10001"), or ("process", 1): right here
    for index in range(10):
        pool.submit(index, make_shard, directory, recipe, index)
    for index, shard in pool.results():                 # in the order in which they finish; more may be submitted meanwhile
        ...
```

A task may have been carried out in part, or even wholly, when its worker was lost: it must be one that can be repeated. All
work here is: files are written whole or not at all, and what a task makes follows from its arguments.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.managers import SyncManager
from types import TracebackType
from typing import Any, Literal, Self

from qsft_bench.errors import BenchError

Executor = Literal["process", "ray"]
LOSSES = 3  # workers that a task may lose before it is given up
POLL_SECONDS = 0.2  # between two looks at what workers report


def workers(executor: Executor = "process", count: int = 1, address: str = "", gpus: int = 0) -> Workers:
    """Workers of a kind, to be used as a context manager.

    Args:
        executor: `process` for processes of this machine, none but this one if `count` is 1; `ray` for a Ray cluster.
        count: tasks at a time.
        address: of the Ray cluster; empty for one on this machine that ends with this process.
        gpus: that Ray keeps for each task.

    Raises:
        BenchError: the cluster cannot be reached, or Ray is not installed.
    """
    if executor == "ray":
        return RayWorkers(count, address, gpus)
    if address:
        raise BenchError(f"only Ray has clusters: add `--executor ray` to `--address {address}`, or leave both out")
    return ProcessWorkers(count) if count > 1 else Here()


class LostError(Exception):
    """The worker of a task ended before the task did."""


class Workers(ABC):
    """What all kinds share: the queue of tasks, and their repetition. A context manager.

    Args:
        count: tasks at a time.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise BenchError(f"there must be at least one worker, not {count}")
        self.count = count
        self._waiting: deque[tuple[Hashable, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._losses: Counter[Hashable] = Counter()
        self._calls: list[Callable[..., None]] = []

    def submit(self, task: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        """Have `function(*arguments)` carried out under the name `task`; both must be picklable, the function by its name."""
        self._waiting.append((task, function, arguments))

    def results(self) -> Iterator[tuple[Any, Any]]:
        """(task, what it returned) of all that was submitted, and of all that is submitted while this goes on.

        Raises:
            BenchError: a task lost `LOSSES` workers.
            Exception: what a task raised.
        """
        running: dict[Hashable, tuple[Hashable, Callable[..., Any], tuple[Any, ...]]] = {}
        while self._waiting or running:
            while self._waiting and len(running) < self.count:
                task, function, arguments = self._waiting.popleft()
                running[self._begin(function, arguments)] = task, function, arguments
            ready = self._ready(list(running), POLL_SECONDS)
            self._report()
            for handle in ready:
                task, function, arguments = running.pop(handle)
                try:
                    found = self._collect(handle)
                except LostError as error:
                    self._losses[task] += 1
                    if self._losses[task] == LOSSES:
                        raise BenchError(
                            f"{task} was given up after {LOSSES} workers were lost with it ({error}); if they ran out of "
                            f"memory, use fewer --jobs; what is finished is kept"
                        ) from error
                    self._waiting.appendleft((task, function, arguments))
                else:
                    yield task, found

    def in_order(
        self,
        tasks: Mapping[Any, tuple[Callable[..., Any], tuple[Any, ...]]],
        needs: Mapping[Any, Collection[Any]],
    ) -> Iterator[tuple[Any, Any]]:
        """`results` of `tasks` (name -> function and arguments), each submitted once those of them that it needs have finished.

        Args:
            needs: by task; what is no task here is taken to be there already.
        """
        waiting, undone = dict(tasks), set(tasks)

        def begin() -> None:
            for task in [task for task in waiting if undone.isdisjoint(needs[task])]:
                function, arguments = waiting.pop(task)
                self.submit(task, function, *arguments)

        begin()
        for task, found in self.results():
            undone.discard(task)
            begin()
            yield task, found

    def calling(self, function: Callable[..., None]) -> Callable[..., None]:
        """A picklable stand-in for `function`: where a task calls it, `function` is called here, while `results` waits."""
        self._calls.append(function)
        return _Calling(self._queue(), len(self._calls) - 1)

    def _report(self) -> None:
        """Make the calls that tasks have asked for."""
        if self._calls:
            queue = self._queue()
            while not queue.empty():
                index, arguments = queue.get()
                self._calls[index](*arguments)

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...

    @abstractmethod
    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Hashable:
        """Start a task; what stands for it until it ends."""

    @abstractmethod
    def _ready(self, handles: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Those that have ended, after at most `seconds` where none has."""

    @abstractmethod
    def _collect(self, handle: Any) -> Any:
        """What an ended task returned.

        Raises:
            LostError: its worker was lost.
        """

    @abstractmethod
    def _queue(self) -> Any:
        """The queue from tasks to here."""


class _Calling:
    """Sends the arguments of a call to the process that makes it."""

    def __init__(self, queue: Any, index: int) -> None:
        self.queue = queue
        self.index = index

    def __call__(self, *arguments: Any) -> None:
        self.queue.put((self.index, arguments))


class Here(Workers):
    """No worker: each task is carried out in this process when its result is asked for."""

    def __init__(self) -> None:
        super().__init__(1)

    def calling(self, function: Callable[..., None]) -> Callable[..., None]:
        return function

    def __exit__(self, *exception: object) -> None:
        self._waiting.clear()

    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Hashable:
        return lambda: function(*arguments)

    def _ready(self, handles: Sequence[Any], seconds: float) -> Sequence[Any]:
        return handles

    def _collect(self, handle: Any) -> Any:
        return handle()

    def _queue(self) -> Any:
        raise NotImplementedError("calls are made at once")


class ProcessWorkers(Workers):
    """Processes of this machine. Each is a pool of one, so that one which is killed takes no other's task with it."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[Any], ProcessPoolExecutor] = {}
        self._manager: SyncManager | None = None
        self._reports: Any = None

    def __exit__(self, *exception: object) -> None:
        self._waiting.clear()
        for pool in (*self._idle, *self._busy.values()):
            pool.shutdown(wait=True, cancel_futures=True)
        if self._manager is not None:
            self._manager.shutdown()

    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Hashable:
        pool = self._idle.pop() if self._idle else worker_pool(1)
        try:
            future = pool.submit(function, *arguments)
        except BrokenProcessPool:  # it was killed while it had nothing to do
            pool = worker_pool(1)
            future = pool.submit(function, *arguments)
        self._busy[future] = pool
        return future

    def _ready(self, handles: Sequence[Future[Any]], seconds: float) -> Sequence[Future[Any]]:
        return [*wait_for(handles, timeout=seconds, return_when=FIRST_COMPLETED).done]

    def _collect(self, handle: Future[Any]) -> Any:
        pool = self._busy.pop(handle)
        try:
            found = handle.result()
        except BrokenProcessPool as error:
            pool.shutdown(wait=False)
            raise LostError("the process was killed, or died") from error
        except BaseException:
            self._idle.append(pool)
            raise
        self._idle.append(pool)
        return found

    def _queue(self) -> Any:
        if self._manager is None:
            self._manager = SyncManager(ctx=multiprocessing.get_context("forkserver"))
            self._manager.start(_end_with_parent)
            self._reports = self._manager.Queue()
        return self._reports


class RayWorkers(Workers):
    """Ray Core's: of this machine, or of the cluster at `address`, whose machines must see the same folders."""

    def __init__(self, count: int, address: str = "", gpus: int = 0) -> None:
        super().__init__(count)
        self.address = address
        self.gpus = gpus
        self._running: dict[Any, None] = {}
        self._reports: Any = None

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        try:
            import ray
        except ImportError as error:
            raise BenchError(f"--executor ray needs Ray ({error}); `qsft-bench doctor` says how to install it") from error
        if not ray.is_initialized():  # a local cluster takes seconds to start: it stays until this process ends
            local: dict[str, Any] = {} if self.address else {"num_cpus": self.count, "include_dashboard": False}
            try:
                ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                where = f"the Ray cluster at {self.address} cannot be reached" if self.address else "Ray cannot be started"
                raise BenchError(f"{where}: {error}; `ray status` on a machine of the cluster shows what it has") from error
        return self

    def __exit__(self, *exception: object) -> None:
        import ray

        self._waiting.clear()
        for handle in self._running:
            ray.cancel(handle, force=True)
        if self._reports is not None:
            self._reports.shutdown(force=True)

    def _begin(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Hashable:
        import ray

        remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=0)(_carry_out)  # `results` repeats what is lost
        handle = remote.remote(function, arguments)
        self._running[handle] = None
        return handle

    def _ready(self, handles: Sequence[Any], seconds: float) -> Sequence[Any]:
        import ray

        return ray.wait(list(handles), num_returns=1, timeout=seconds, fetch_local=False)[0]

    def _collect(self, handle: Any) -> Any:
        import ray

        del self._running[handle]
        try:
            return ray.get(handle)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise LostError(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error

    def _queue(self) -> Any:
        if self._reports is None:
            from ray.util.queue import Queue

            self._reports = Queue(actor_options={"num_cpus": 0})
        return self._reports


def _carry_out(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What Ray is given, which takes functions and no methods."""
    return function(*arguments)


def worker_pool(count: int) -> ProcessPoolExecutor:
    """`count` processes from a fork server, which end with this one even where it is killed.

    A fork of this process would copy its threads' locks.
    """
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Workers whose parent is killed with `kill -9` would otherwise wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
