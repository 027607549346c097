"""Workers do their work whatever befalls one of them, and do not outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qsft_bench.errors import BenchError
from qsft_bench.workers import LOSSES, Executor, workers
from tests.executors import EXECUTORS, stop_ray

PARENT = """
import os
from qsft_bench.workers import workers
from tests.test_workers import say_pid_and_wait
if __name__ == "__main__":
    with workers("process", 2) as pool:
        pool.submit("task", say_pid_and_wait)
        list(pool.results())
"""


def say_pid_and_wait() -> None:
    print(os.getpid(), flush=True)
    time.sleep(60)


def alive(pid: int) -> bool:
    """Whether it runs; one that ended and that nobody has waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(autouse=True, scope="module")
def ray_stops() -> Iterator[None]:
    yield
    stop_ray()


def square(number: int, said: Callable[..., None] = lambda *arguments: None) -> tuple[int, int]:
    """Its square, and who worked it out."""
    said("squaring", number)
    return number * number, os.getpid()


def noted(log: list[str], name: str) -> str:
    log.append(name)
    return name.upper()


def dies(marks: Path, times: int) -> str:
    """Ends its process as `kill -9` does, the first `times` times that it is called."""
    before = len(list(marks.iterdir()))
    (marks / str(before)).touch()
    if before < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def refuses() -> None:
    raise BenchError("no room left")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_each_result_once_and_under_its_name(executor: Executor) -> None:
    """Of tasks that are submitted while others run, too; and what they say is heard here."""
    heard: list[tuple[str, int]] = []
    found: dict[int, int] = {}
    with workers(executor, 2) as pool:
        said = pool.calling(lambda what, number: heard.append((what, number)))
        for number in range(3):
            pool.submit(number, square, number, said)
        for number, (result, pid) in pool.results():
            assert number not in found
            assert pid != os.getpid()
            found[number] = result
            if number < 3:
                pool.submit(number + 10, square, number + 10, said)
        pool.submit(20, square, 20, said)
        assert [number for number, _ in pool.results()] == [20]
    assert found == {number: number * number for number in (0, 1, 2, 10, 11, 12)}
    assert sorted(heard) == [("squaring", number) for number in sorted([*found, 20])]


def test_one_process_is_this_one() -> None:
    with workers("process", 1) as pool:
        for number in (3, 1, 2):
            pool.submit(number, square, number)
        assert list(pool.results()) == [(number, (number * number, os.getpid())) for number in (3, 1, 2)]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_task_whose_worker_is_killed_is_carried_out_again(tmp_path: Path, executor: Executor) -> None:
    """And those of other workers only once."""
    with workers(executor, 2) as pool:
        pool.submit("killed", dies, tmp_path, LOSSES - 1)
        for number in range(3):
            pool.submit(number, square, number)
        found = [*pool.results()]
    assert sorted(str(task) for task, _ in found) == ["0", "1", "2", "killed"]
    assert dict(found)["killed"] == "done"
    assert len(list(tmp_path.iterdir())) == LOSSES


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_task_that_kills_every_worker_is_given_up(tmp_path: Path, executor: Executor) -> None:
    with workers(executor, 2) as pool:
        pool.submit("the large one", dies, tmp_path, 99)
        with pytest.raises(BenchError, match=rf"the large one was given up after {LOSSES} workers .* use fewer --jobs"):
            list(pool.results())
    assert len(list(tmp_path.iterdir())) == LOSSES


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_is_the_tasks_own(executor: Executor) -> None:
    with workers(executor, 2) as pool:
        pool.submit("refused", refuses)
        with pytest.raises(BenchError, match=r"^no room left$"):
            list(pool.results())


def test_what_cannot_be() -> None:
    with pytest.raises(BenchError, match="there must be at least one worker, not 0"):
        workers("ray", 0)
    with pytest.raises(BenchError, match="add `--executor ray` to `--address head:6379`"):
        workers("process", 2, "head:6379")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchError, match=r"--executor ray needs Ray .*; `qsft-bench doctor` says how to install it"):
        workers("ray", 2).__enter__()


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    here = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(here)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while alive(worker) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(worker)


def test_a_task_is_begun_once_what_it_needs_has_finished() -> None:
    log: list[str] = []
    needs = {"play": ["train"], "train": ["data"], "data": ["there already"], "other": []}
    with workers() as pool:
        found = dict(pool.in_order({name: (noted, (log, name)) for name in needs}, needs))
    assert found == {name: name.upper() for name in needs}
    assert log.index("data") < log.index("train") < log.index("play")
