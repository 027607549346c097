"""Asking a model: a small server that behaves badly in every way, the cache, the budget, and a model on this machine."""

from __future__ import annotations

import importlib.util
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from qsft_bench import llm
from qsft_bench.errors import BenchError
from qsft_bench.files import read_json
from qsft_bench.llm import Endpoint, LocalModel

asks = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs the openai package")

KEY = "sk-very-secret-0123456789"
Reply = tuple[int, dict[str, str], bytes]
VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", *(f"QSFT_BENCH_{name}" for name in ("LLM", "LLM_LOCAL", "CACHE")))
BUDGETS = tuple(f"QSFT_BENCH_LLM_{name}" for name in ("TOKENS", "DOLLARS", "PRICES"))


def reply(content: Any, usage: dict[str, Any] | None = None) -> Reply:
    """A well-formed answer."""
    value: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    value["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]
    if usage is not None:
        value["usage"] = usage
    return whole(200, value)


def whole(status: int, value: Any, **headers: str) -> Reply:
    text = value if isinstance(value, str) else json.dumps(value)
    return (
        status,
        {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}},
        text.encode(),
    )


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `script`, or, when that is used up, with what `model` makes of the body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Reply | Callable[[BaseHTTPRequestHandler], None]] = []
        self.model: Callable[[dict[str, Any]], Reply] = lambda body: reply(f"to {body['messages'][-1]['content']}")
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.lock = threading.Lock()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Server]:
        """One that answers until the block ends."""
        with cls() as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            yield server
            server.shutdown()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that left are expected."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.add(self.headers["Authorization"])
            made = self.server.script.pop(0) if self.server.script else self.server.model(body)
        if callable(made):
            made(self)
            return
        status, headers, content = made
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.0)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Half an answer, then a reset."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server.running() as running:
        yield running


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
def endpoint(server: Server, naps: list[float], tmp_path: Path) -> Endpoint:
    """One that only notes how long it would have slept."""
    return Endpoint("m", KEY, server.url, tmp_path / "cache", timeout=5.0, sleep=naps.append)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any of the variables."""
    for name in (*VARIABLES, *BUDGETS):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


# Answers --------------------------------------------------------------------------------------------------------------


@asks
def test_a_question_goes_out_as_the_protocol_says(endpoint: Endpoint, server: Server) -> None:
    assert endpoint.complete(said("hello"), max_tokens=7, temperature=1, seed=3, stop=["\n"]) == "to hello"
    body = {"model": "m", "messages": said("hello"), "max_tokens": 7, "temperature": 1.0, "seed": 3, "stop": ["\n"]}
    assert server.bodies == [body] and server.keys == {f"Bearer {KEY}"}
    endpoint.complete(said("hello"))
    assert server.bodies[1] == {"model": "m", "messages": said("hello"), "max_tokens": 256, "temperature": 0.0}


@asks
def test_many_come_back_in_order_and_equal_ones_are_asked_once(endpoint: Endpoint, server: Server) -> None:
    texts = [str(number % 20) for number in range(50)]

    def model(body: dict[str, Any]) -> Reply:
        time.sleep(0.002 * (20 - int(body["messages"][0]["content"])))  # the first asked is the last answered
        return reply(body["messages"][0]["content"] * 2)

    server.model = model
    assert endpoint.complete_many([said(text) for text in texts]) == [text * 2 for text in texts]
    assert len(server.bodies) == 20
    assert endpoint.complete_many([]) == []


@asks
@pytest.mark.parametrize(
    "bad",
    [
        slow,
        cut,
        whole(500, {"error": {"message": "oh"}}),
        whole(503, "<html>no</html>"),
        whole(429, {"error": {"message": "slow down"}}),
        whole(408, {}),
        whole(200, '{"choices": [{"mess'),
        whole(200, "<html>welcome</html>"),
        whole(200, "[]"),
        whole(200, "[" * 100_000),
        whole(200, "{}"),
        whole(200, {"choices": []}),
        whole(200, {"choices": [{}]}),
        whole(200, {"choices": [{"message": {"role": "assistant"}}]}),
        whole(200, {"choices": [{"message": {"role": "assistant", "content": ["x"]}}]}),
        reply(None),
    ],
)
def test_what_may_pass_is_tried_again(endpoint: Endpoint, server: Server, naps: list[float], bad: Any) -> None:
    server.script = [bad, bad, reply("there")]
    assert replace(endpoint, timeout=0.5 if bad is slow else 5.0).complete(said("q")) == "there"
    assert len(server.bodies) == 3
    assert naps == [1.0, 2.0]


@asks
@pytest.mark.parametrize(("asked", "wait"), [("7", 7.0), ("0.5", 1.0), ("soon", 1.0), ("Mon, 40 Jan", 1.0), ("", 1.0)])
def test_waits_as_long_as_it_is_asked_to(
    endpoint: Endpoint, server: Server, naps: list[float], asked: str, wait: float
) -> None:
    server.script = [whole(429, {}, Retry_After=asked)]
    assert endpoint.complete(said("q")) == "to q"
    assert naps == [wait]


@asks
def test_waits_until_a_date(endpoint: Endpoint, server: Server, naps: list[float]) -> None:
    server.script = [whole(503, {}, Retry_After=formatdate(time.time() + 200, usegmt=True))]
    assert endpoint.complete(said("q")) == "to q"
    assert naps == [pytest.approx(200, abs=30)]


@asks
def test_does_not_wait_for_hours(endpoint: Endpoint, server: Server, naps: list[float]) -> None:
    server.script = [whole(429, {}, Retry_After="7200")]
    with pytest.raises(BenchError, match="answers 429 and asks to wait 7200 s; come back then"):
        endpoint.complete(said("q"))
    assert naps == []


@asks
def test_gives_up_in_the_end(endpoint: Endpoint, server: Server, naps: list[float]) -> None:
    server.script = [whole(500, {})] * 6
    with pytest.raises(BenchError, match=r"127\.0\.0\.1:\d+ answers 500, 6 times; try again later"):
        endpoint.complete(said("q"))
    assert naps == [1.0, 2.0, 4.0, 8.0, 16.0]
    server.server_close()
    with pytest.raises(BenchError, match=r"cannot be reached .*, 6 times"):
        replace(endpoint, base_url="http://127.0.0.1:9/v1").complete(said("q"))


@asks
def test_a_model_that_never_says_anything_says_the_empty_string(endpoint: Endpoint, server: Server) -> None:
    server.script = [reply(None)] * 6
    assert endpoint.complete(said("q")) == ""
    assert "6 unreadable" in endpoint.summary()
    assert endpoint.complete(said("q")) == "to q"  # silence is not kept
    server.script = [reply("")]
    assert [endpoint.complete(said("w")), endpoint.complete(said("w"))] == ["", ""]  # an empty answer is one
    assert len(server.bodies) == 8


@asks
@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, {}, "refuses the key .401.: set OPENAI_API_KEY"),
        (403, {}, "refuses the key .403.: set OPENAI_API_KEY to one that may use m"),
        (404, {}, "has no m at that address .404.*check QSFT_BENCH_LLM and OPENAI_BASE_URL"),
        (400, {"message": "max_tokens is too large"}, "refuses the request .400.: .*max_tokens is too large"),
        (422, {}, "refuses the request .422."),
        (429, {"code": "insufficient_quota"}, "quota is used up"),
    ],
)
def test_what_will_not_pass_is_said_at_once(
    endpoint: Endpoint, server: Server, naps: list[float], status: int, error: dict[str, str], message: str
) -> None:
    server.script = [whole(status, {"error": {"message": "no", **error}})]
    with pytest.raises(BenchError, match=message):
        endpoint.complete(said("q"))
    assert len(server.bodies) == 1 and naps == []


@asks
def test_one_refusal_ends_many_questions(endpoint: Endpoint, server: Server) -> None:
    server.model = lambda body: whole(401, {})
    with pytest.raises(BenchError, match="refuses the key"):
        replace(endpoint, workers=2).complete_many([said(str(number)) for number in range(100)])
    assert len(server.bodies) < 100


@asks
def test_text_that_no_file_can_hold(endpoint: Endpoint, server: Server) -> None:
    server.script = [whole(200, '{"choices": [{"message": {"content": "a\\ud800b"}}]}')]
    assert endpoint.complete(said("x\udfffy")) == "a?b"
    assert server.bodies[0]["messages"] == said("x?y")
    assert endpoint.complete(said("x\udfffy")) == "a?b" and len(server.bodies) == 1


# The cache ------------------------------------------------------------------------------------------------------------


@asks
def test_an_answer_is_paid_for_once(endpoint: Endpoint, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    first = endpoint.complete(said("q"), stop=("a", "b"))
    other = replace(endpoint, tokens=0)  # another process, say, and it may not spend anything
    monkeypatch.setattr(llm, "_openai", lambda: pytest.fail("asked"))
    assert other.complete(said("q"), stop=["a", "b"]) == first
    assert other.complete_many([said("q")] * 3, stop=["a", "b"], temperature=0) == [first] * 3
    assert len(server.bodies) == 1
    assert other.summary().startswith("m at 127.0.0.1:") and "0 answers, 2 from the cache, 0 + 0 tokens of 0" in other.summary()


@asks
def test_another_question_is_another_answer(endpoint: Endpoint, server: Server) -> None:
    endpoint.complete(said("q"))
    endpoint.complete(said("q "))
    endpoint.complete([{"role": "system", "content": "q"}])
    for change in ({"max_tokens": 9}, {"temperature": 0.5}, {"seed": 0}, {"stop": ["x"]}):
        endpoint.complete(said("q"), **change)  # type: ignore[arg-type]
    replace(endpoint, model="n").complete(said("q"))
    replace(endpoint, base_url=f"{server.url}/").complete(said("q"))
    assert len(server.bodies) == 9 == len(list(endpoint.cache.glob("*.json")))
    assert all(len(path.stem) == 64 for path in endpoint.cache.iterdir())  # nothing but SHA-256s


@asks
@pytest.mark.parametrize("damage", [b"", b'{"answer": "to', b"[]", b'{"answer": 3}', b"\xff\xfe"])
def test_a_damaged_file_is_a_miss(endpoint: Endpoint, server: Server, damage: bytes) -> None:
    endpoint.complete(said("q"))
    (path,) = endpoint.cache.iterdir()
    path.write_bytes(damage)
    assert endpoint.complete(said("q")) == "to q"
    assert len(server.bodies) == 2 and read_json(path)["answer"] == "to q"


@asks
def test_the_key_is_nowhere(endpoint: Endpoint, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spoken = replace(endpoint, base_url=server.url.replace("//", "//user:secret-password@"))
    spoken.complete(said("q"))
    server.model = lambda body: whole(400, {"error": {"message": f"Incorrect API key provided: {KEY}."}})
    with pytest.raises(BenchError) as caught:
        spoken.complete(said("w"))
    error = caught.value
    shown = [str(error), repr(spoken), spoken.summary(), str(spoken.identity)]
    shown += [path.read_text() for path in endpoint.cache.iterdir()]
    assert error.__suppress_context__ and "(key)" in str(error)  # a traceback ends with it
    assert not any(KEY in text for text in [*shown, caplog.text])
    assert not any("secret-password" in text for text in shown)
    assert KEY not in "".join(path.name for path in tmp_path.rglob("*"))


# The budget -----------------------------------------------------------------------------------------------------------


@asks
def test_tokens_are_counted_and_end(endpoint: Endpoint, server: Server) -> None:
    server.model = lambda body: reply("x", {"prompt_tokens": 30, "completion_tokens": 10})
    thrifty = replace(endpoint, tokens=100)
    for text in ("a", "b"):
        thrifty.complete(said(text), max_tokens=50)
    assert "2 answers, 0 from the cache, 60 + 20 tokens of 100" in thrifty.summary()
    with pytest.raises(BenchError, match=r"used up: 60 \+ 20 tokens of 100; raise QSFT_BENCH_LLM_TOKENS"):
        thrifty.complete(said("c"), max_tokens=50)  # 80 + 1 + 50 could pass it
    assert len(server.bodies) == 2
    thrifty.complete(said("c"), max_tokens=19)
    assert thrifty.complete(said("a"), max_tokens=50) == "x"  # kept: costs nothing


@asks
def test_money_is_counted_and_ends(endpoint: Endpoint, server: Server) -> None:
    server.model = lambda body: reply("x", {"prompt_tokens": 1_000_000, "completion_tokens": 100_000})
    thrifty = replace(endpoint, prices=(0.5, 1.5), dollars=1.0)
    thrifty.complete(said("a"))
    assert "1,000,000 + 100,000 tokens, $0.6500 of $1" in thrifty.summary()
    thrifty.complete(said("b"))
    with pytest.raises(BenchError, match=r"\$1\.3000 of \$1; raise QSFT_BENCH_LLM_DOLLARS"):
        thrifty.complete(said("c"))
    assert len(server.bodies) == 2


@asks
@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": "9"}, {"prompt_tokens": -1}])
def test_who_does_not_count_is_counted_for(endpoint: Endpoint, server: Server, usage: Any) -> None:
    server.model = lambda body: reply("12345678", usage)
    endpoint.complete(said("x" * 400))
    assert "101 + 2 tokens" in endpoint.summary()


@asks
def test_an_answer_that_came_too_late_is_paid_for(endpoint: Endpoint, server: Server) -> None:
    server.script = [slow, reply("x", {"prompt_tokens": 3, "completion_tokens": 1})]
    hasty = replace(endpoint, timeout=0.5)
    hasty.complete(said("x" * 400), max_tokens=20)
    assert "104 + 21 tokens" in hasty.summary()


@asks
def test_requests_side_by_side_keep_within_the_budget(endpoint: Endpoint, server: Server) -> None:
    """Each may take 101 tokens and takes 10, so with 300 the eight workers can be let in only two at a time."""
    most, now = 0, 0

    def model(body: dict[str, Any]) -> Reply:
        return reply("x", {"prompt_tokens": 5, "completion_tokens": 5})

    def busy(handler: Any) -> None:
        nonlocal most, now
        with server.lock:
            now += 1
            most = max(most, now)
        time.sleep(0.03)
        with server.lock:
            now -= 1
        status, _, content = model({})
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    server.script = [busy] * 15
    thrifty = replace(endpoint, tokens=300, workers=8)
    assert thrifty.complete_many([said(str(number)) for number in range(15)], max_tokens=100) == ["x"] * 15
    assert "75 + 75 tokens of 300" in thrifty.summary()
    assert most <= 2


# Setting it up --------------------------------------------------------------------------------------------------------


def test_says_what_to_set(settings: pytest.MonkeyPatch) -> None:
    with pytest.raises(BenchError, match=r"set OPENAI_API_KEY and QSFT_BENCH_LLM .* OPENAI_BASE_URL .* QSFT_BENCH_LLM_LOCAL"):
        llm.language_model()
    assert llm.unavailable() == "needs an endpoint"
    settings.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(BenchError, match="set QSFT_BENCH_LLM "):
        Endpoint.from_environment()


@asks
def test_reads_the_environment(settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in zip(
        (*VARIABLES[:3], *BUDGETS), (f" {KEY}\n", "http://h:8/v1", "m", "9000", "5", "0.5,1.5"), strict=True
    ):
        settings.setenv(name, value)
    settings.setenv("QSFT_BENCH_CACHE", str(tmp_path))
    found = Endpoint.from_environment()
    wanted = Endpoint("m", KEY, "http://h:8/v1", tmp_path / "llm", (0.5, 1.5), 9000, 5.0)
    assert found == wanted
    assert found.identity == {"model": "m", "host": "h:8"}
    assert llm.language_model() is found  # one budget, whoever asks
    assert llm.unavailable() == ""
    settings.setenv("QSFT_BENCH_LLM", "another")
    assert Endpoint.from_environment() is not found
    for name in (*BUDGETS, "OPENAI_BASE_URL", "QSFT_BENCH_CACHE"):
        settings.delenv(name)
    settings.setenv("HOME", str(tmp_path))
    assert Endpoint.from_environment() == Endpoint("another", KEY, llm.OPENAI, tmp_path / ".cache/qsft-bench/llm")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OPENAI_API_KEY", "sk-\u00e9", "OPENAI_API_KEY is empty or holds characters"),
        ("OPENAI_BASE_URL", "localhost:8000/v1", "OPENAI_BASE_URL is not an address such as http"),
        ("OPENAI_BASE_URL", "http://host:port/v1", "OPENAI_BASE_URL is not an address"),
        ("OPENAI_BASE_URL", "http:///v1", "OPENAI_BASE_URL is not an address"),
        ("QSFT_BENCH_LLM_PRICES", "0.5", "QSFT_BENCH_LLM_PRICES='0.5' makes no sense: write it as 0.5,1.5"),
        ("QSFT_BENCH_LLM_TOKENS", "many", "QSFT_BENCH_LLM_TOKENS='many'"),
        ("QSFT_BENCH_LLM_DOLLARS", "nan", "QSFT_BENCH_LLM_DOLLARS='nan'"),
        ("QSFT_BENCH_LLM_DOLLARS", "5", "a budget in dollars needs prices: set QSFT_BENCH_LLM_PRICES"),
    ],
)
def test_nonsense_is_named(settings: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    settings.setenv("OPENAI_API_KEY", KEY)
    settings.setenv("QSFT_BENCH_LLM", "m")
    settings.setenv(name, value)
    with pytest.raises(BenchError, match=message):
        Endpoint.from_environment()


def test_without_the_package(settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(BenchError, match=r"qsft-bench\[llm\]"):
        Endpoint("m", KEY, cache=tmp_path).complete(said("q"))


# A model on this machine ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of random weights and its own kind of tokenizer: ASCII, a letter a token, and one that ends a text."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    alphabet = ["<end>", *map(chr, range(33, 127)), "\u0120", "\u010a"]  # how GPT-2's vocabulary writes space and newline
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=len(alphabet), n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_local_model_goes_on_with_the_most_likely_text(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model = LocalModel(str(folder), batch_size=3)
    texts = ["Thought:", "abc", "a longer one\nof two lines", "z" * 500, ""]
    answers = model.complete_many([said(text) for text in [*texts[:4], "abc"]], max_tokens=12)
    assert answers[1] == answers[4] and model.complete(said("abc"), max_tokens=12) == answers[1]
    assert [LocalModel(str(folder)).complete(said(text), max_tokens=12) for text in texts[:4]] == answers[:4]

    network, tokenizer = GPT2LMHeadModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("abc")["input_ids"]
    while len(ids) < 3 + 12 and ids[-1] != tokenizer.eos_token_id:
        ids.append(int(network(torch.tensor([ids])).logits[0, -1].argmax()))
    assert answers[1] == tokenizer.decode(ids[3:], skip_special_tokens=True)


def test_a_local_model_stops_where_it_is_told(folder: Path) -> None:
    model = LocalModel(str(folder))
    text = model.complete(said("abc"), max_tokens=20)
    end = text[3:5]
    assert model.complete_many([said("abc"), said("Q")], max_tokens=20, stop=[end])[0] == text[: text.index(end)]
    assert len(model.complete(said("abc"), max_tokens=500)) <= 32  # half of its 64 positions


def test_a_local_model_draws_by_its_seed_alone(folder: Path) -> None:
    import torch

    model = LocalModel(str(folder))
    before = torch.random.get_rng_state()
    drawn = [model.complete(said("abc"), max_tokens=20, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    together = model.complete_many([said("Q"), said("abc")], max_tokens=20, temperature=1.0, seed=1)
    assert together[1] == drawn[0]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.summary() == f"{folder.name} on cpu: 5 answers"


def test_a_chat_template_is_used(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[me] "
    tokenizer.save_pretrained(tmp_path)
    GPT2LMHeadModel.from_pretrained(folder).save_pretrained(tmp_path)
    plain, chat = LocalModel(str(folder)), LocalModel(str(tmp_path))
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert chat.complete(talk, max_tokens=9) == plain.complete(said("[system] s\n[user] u\n[me] "), max_tokens=9)
    assert plain.complete(talk, max_tokens=9) == plain.complete(said("s\n\nu"), max_tokens=9)
    assert chat.identity != plain.identity and "/" not in plain.identity["model"]


def test_which_model_is_chosen(folder: Path, settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings.setenv("QSFT_BENCH_LLM_LOCAL", str(folder))
    assert llm.unavailable() == ""
    assert llm.language_model() is llm.language_model(str(folder))
    settings.setenv("QSFT_BENCH_LLM_LOCAL", str(tmp_path))
    with pytest.raises(BenchError, match=r"cannot be loaded as a causal language model .* QSFT_BENCH_LLM_LOCAL takes a folder"):
        llm.language_model()
