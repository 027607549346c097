"""Stockfish as a pure function of the position: what it thinks of the best moves at a given depth.

One engine a process serves every game of it. Before each search its hash and history tables are cleared (`ucinewgame`, about
0.25 ms), so that an answer depends neither on what was asked before nor on whether the engine was started anew in between:
answers may be kept, and games played side by side, in any order and in any number of processes are the same games.

The pipe is spoken to directly: python-chess's own `SimpleEngine` takes 0.6 to 1.5 ms of our time a search at depth 1 to 5, this
0.05 ms, and a search takes the engine 0.4 to 1.2 ms.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import subprocess
import threading

from qsft_bench.errors import BenchError

PATH_VARIABLE = "QSFT_BENCH_STOCKFISH"
VERSION = "Stockfish 15.1"  # of the paper, and of Debian 12; another one plays other games
LINES = 4
OPTIONS = {"Threads": 1, "Hash": 1, "MultiPV": LINES}  # the hash's size changes the games
MATE = 32_000  # centipawns; a mate in n moves is worth MATE - n
PATIENCE = 60.0  # seconds to wait for an answer; a search takes milliseconds
ATTEMPTS = 3

Analysis = tuple[tuple[str, int], ...]
"""(move in UCI notation, score in centipawns for the side to move), best first, at most `LINES` of them."""


def analyse(position: str, depth: int) -> Analysis:
    """The best moves of `position`, searched to `depth` plies.

    Args:
        position: piece placement, side to move, castling rights, en passant square (`chess.Board.epd()`). Clocks are left
            out: the engine plays as if the fifty-move count were 0.

    Raises:
        BenchError: there is no Stockfish, or it dies whenever it is asked.
    """
    for _ in range(ATTEMPTS):
        try:
            return _engine().search(position, depth)
        except OSError:
            close()
        except BaseException:
            close()  # what it says next would be taken for the next answer
            raise
    raise BenchError(f"stockfish stopped {ATTEMPTS} times while looking at {position!r}; try `{find()}` by hand")


def find() -> str:
    """Path of the Stockfish to use: `$QSFT_BENCH_STOCKFISH`, else that of PATH, else Debian's.

    Raises:
        BenchError: there is none.
    """
    named = os.environ.get(PATH_VARIABLE)
    # Debian keeps it in /usr/games, which is not on every PATH.
    found = shutil.which(named) if named else shutil.which("stockfish") or shutil.which("stockfish", path="/usr/games")
    if found is None:
        missing = f"${PATH_VARIABLE} is {named!r}, which is no program" if named else "Stockfish, Black's engine, is not here"
        raise BenchError(f"{missing}: apt-get install stockfish (macOS: brew install stockfish), or set ${PATH_VARIABLE}")
    return found


def name() -> str:
    """What the engine calls itself, e.g. `Stockfish 15.1`; starts it if it is not running.

    Raises:
        BenchError: there is none, or it does not answer.
    """
    return _engine().name


def close() -> None:
    """End this process's engine, if it has one; the next question starts another."""
    global _running
    engine, _running = _running, None
    if engine is not None:
        engine.close()


class Engine:
    """One Stockfish process, spoken to in UCI.

    Attributes:
        name: what it calls itself.
        owner: id of the process that started it; a fork must not use it.

    Raises:
        BenchError: it cannot be started, or does not speak UCI.
    """

    def __init__(self, path: str) -> None:
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._unread = b""
        try:
            # Reads of its pipe end when this process ends, however it ends; then it quits.
            self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
            greeting = self._ask("uci\n", b"uciok")
            options = "".join(f"setoption name {option} value {value}\n" for option, value in OPTIONS.items())
            self._ask(f"{options}isready\n", b"readyok")
        except OSError as error:
            if hasattr(self, "process"):
                self.close()
            raise BenchError(f"{path} does not start as a UCI engine: {error}; apt-get install stockfish") from error
        names = [line.removeprefix(b"id name ") for line in greeting if line.startswith(b"id name ")]
        self.name = names[0].decode(errors="replace").strip() if names else path

    def search(self, position: str, depth: int) -> Analysis:
        """See `analyse`.

        Raises:
            OSError: the engine is gone or does not answer.
        """
        told = self._ask(f"ucinewgame\nposition fen {position} 0 1\ngo depth {depth}\n", b"bestmove")
        best: dict[int, tuple[str, int]] = {}
        for line in told:  # info depth 3 seldepth 3 multipv 2 score cp -31 nodes 311 ... pv e7e5 g1f3 ...
            words = line.split()
            if b"pv" not in words or b"score" not in words:
                continue
            score = words.index(b"score")
            value = int(words[score + 2])
            if words[score + 1] == b"mate":
                value = MATE - value if value > 0 else -MATE - value
            best[int(words[words.index(b"multipv") + 1])] = (words[words.index(b"pv") + 1].decode(), value)
        return tuple(best[line] for line in sorted(best))

    def close(self) -> None:
        """End the process, or, in a fork of the process that started it, only let go of its pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()

    def _ask(self, commands: str, until: bytes) -> list[bytes]:
        """Lines of the answer, up to and with the one that begins with `until`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        lines: list[bytes] = []
        with self._lock:
            self.process.stdin.write(commands.encode())
            output = self.process.stdout.fileno()
            while True:
                line, found, rest = self._unread.partition(b"\n")
                if found:
                    self._unread = rest
                    lines.append(line)
                    if line.startswith(until):
                        return lines
                    continue
                if not select.select([output], [], [], PATIENCE)[0]:
                    raise TimeoutError(f"no answer for {PATIENCE:g} s")
                more = os.read(output, 65536)
                if not more:
                    raise BrokenPipeError("it stopped")
                self._unread += more


_running: Engine | None = None
_starting = threading.Lock()


def _engine() -> Engine:
    """This process's engine, started at the first question and after a fork."""
    global _running
    with _starting:
        if _running is not None and _running.owner != os.getpid():
            close()
        if _running is None:
            _running = Engine(find())
        return _running


atexit.register(close)
