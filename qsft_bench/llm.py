"""Language models that are asked, not trained: any OpenAI-compatible endpoint, or a causal model on this machine.

```
OPENAI_API_KEY          the endpoint's key; any word where a server of your own asks for none
OPENAI_BASE_URL         its address, e.g. http://localhost:8000/v1; OpenAI's own if not set
QSFT_BENCH_LLM          the model's name there
QSFT_BENCH_LLM_LOCAL    instead of those three: a folder or hub name of a transformers causal model
QSFT_BENCH_LLM_TOKENS   the most tokens to pay for, prompt and answer together
QSFT_BENCH_LLM_DOLLARS  the most money to spend, by
QSFT_BENCH_LLM_PRICES   dollars a million prompt tokens and answer tokens, e.g. 0.5,1.5
QSFT_BENCH_CACHE        answers are kept in its folder `llm`; ~/.cache/qsft-bench if not set
```
"""

from __future__ import annotations

import email.utils
import importlib.util
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from qsft_bench.errors import BenchError
from qsft_bench.files import cache_folder, file_sha256, json_sha256, read_json, write_json

Messages = Sequence[Mapping[str, str]]
"""A conversation: `role` (`system`, `user` or `assistant`) and `content` of every message."""

OPENAI = "https://api.openai.com/v1"
LONGEST_WAIT = 300.0  # seconds; who is asked to wait longer had better come back another day
BYTES_A_TOKEN = 4  # of English text, to judge what a request will cost before it is sent
RETRIED = frozenset({408, 409, 429})  # and 500 upwards: what may go away by itself

T = TypeVar("T")


class LanguageModel(Protocol):
    """What both kinds of model offer."""

    @property
    def identity(self) -> dict[str, str]:
        """What its answers depend on, beside the question; JSON, without secrets."""

    def complete(
        self,
        messages: Messages,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """What it says next."""

    def complete_many(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """What it says next in each of the conversations, in their order."""

    def summary(self) -> str:
        """One line that says what was asked and spent so far."""


def language_model(name: str | None = None) -> LanguageModel:
    """The model in the folder or of the hub name `name`; without one, whichever the environment variables name.

    Raises:
        BenchError: they name none, or it cannot be loaded.
    """
    name = name or os.environ.get("QSFT_BENCH_LLM_LOCAL")
    return local_model(name) if name else Endpoint.from_environment()


def unavailable() -> str:
    """Why `language_model()` has nothing to offer, in a few words, or an empty string where it has."""
    if os.environ.get("QSFT_BENCH_LLM_LOCAL"):
        return ""
    if not (os.environ.get("OPENAI_API_KEY") and os.environ.get("QSFT_BENCH_LLM")):
        return "needs an endpoint"
    return "" if importlib.util.find_spec("openai") else "needs qsft-bench[llm]"


# Endpoints ------------------------------------------------------------------------------------------------------------


class Ledger:
    """What was spent, what requests under way may cost, and the most that may be; threads share it.

    Args:
        prices: dollars a million prompt tokens and answer tokens.
        tokens: the most tokens, prompt and answer together; None for no limit.
        dollars: the most money; None for no limit.
    """

    def __init__(self, prices: tuple[float, float] | None, tokens: int | None, dollars: float | None) -> None:
        self.prices = prices
        self.limits = {"tokens": tokens, "dollars": dollars}
        self.spent = (0, 0)  # prompt and answer tokens
        self._under_way: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    @contextmanager
    def request(self, expected: tuple[int, int]) -> Iterator[Callable[[int, int], None]]:
        """Around one request of about `expected` (prompt, answer) tokens; yields what is told how many there were.

        Waits while requests under way may still leave enough.

        Raises:
            BenchError: the request would pass a limit.
        """
        with self._changed:
            while over := self._over(expected):
                if not self._under_way:
                    raise BenchError(over)
                self._changed.wait()
            self._under_way.append(expected)
        counted = (0, 0)

        def count(prompt: int, answer: int) -> None:
            nonlocal counted
            counted = (prompt, answer)

        try:
            yield count
        finally:
            with self._changed:
                self._under_way.remove(expected)
                self.spent = (self.spent[0] + counted[0], self.spent[1] + counted[1])
                self._changed.notify_all()

    def dollars(self, prompt: int, answer: int) -> float:
        """What so many tokens cost; 0 where no prices were given."""
        return 0.0 if self.prices is None else (prompt * self.prices[0] + answer * self.prices[1]) / 1e6

    def summary(self) -> str:
        """Tokens and money so far, beside their limits."""
        tokens, dollars = self.limits["tokens"], self.limits["dollars"]
        line = f"{self.spent[0]:,} + {self.spent[1]:,} tokens" + (f" of {tokens:,}" if tokens is not None else "")
        if self.prices is not None:
            line += f", ${self.dollars(*self.spent):.4f}" + (f" of ${dollars:g}" if dollars is not None else "")
        return line

    def _over(self, expected: tuple[int, int]) -> str:
        prompt, answer = (sum(column) for column in zip(self.spent, expected, *self._under_way, strict=True))
        tokens, dollars = self.limits["tokens"], self.limits["dollars"]
        if tokens is not None and prompt + answer > tokens:
            return f"the budget is used up: {self.summary()}; raise QSFT_BENCH_LLM_TOKENS to go on (answers are kept)"
        if dollars is not None and self.dollars(prompt, answer) > dollars:
            return f"the budget is used up: {self.summary()}; raise QSFT_BENCH_LLM_DOLLARS to go on (answers are kept)"
        return ""


@dataclass
class Endpoint:
    """A model behind the chat completions protocol; every answer is kept on disk and never paid for twice.

    Attributes:
        model: its name there.
        key: the key; never written or shown.
        base_url: the address, up to and with `/v1`.
        cache: folder of the answers, one JSON file a request.
        prices, tokens, dollars: see `Ledger`. What a request will cost is judged before it is sent (answers at their
            longest); what was spent counts from when this object was made, in each process by itself.
        timeout: seconds to wait for an answer.
        attempts: how often one request is sent before giving up.
        workers: requests under way at once.
        sleep: waits so many seconds between two attempts: 1, 2, 4, ... or as long as the endpoint asks for.

    Raises:
        BenchError: a field makes no sense.
    """

    model: str
    key: str = field(repr=False)
    base_url: str = field(default=OPENAI, repr=False)  # it may hold a password
    cache: Path = field(default_factory=lambda: cache_folder("llm"))
    prices: tuple[float, float] | None = None
    tokens: int | None = None
    dollars: float | None = None
    timeout: float = 60.0
    attempts: int = 6
    workers: int = 8
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable() and self.key.strip()):
            raise BenchError("OPENAI_API_KEY is empty or holds characters that no key has")
        if not _is_address(self.base_url):
            raise BenchError("OPENAI_BASE_URL is not an address such as http://localhost:8000/v1")
        if self.dollars is not None and self.prices is None:
            raise BenchError("a budget in dollars needs prices: set QSFT_BENCH_LLM_PRICES, e.g. 0.5,1.5")
        self._ledger = Ledger(self.prices, self.tokens, self.dollars)
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("paid", "kept", "unreadable"), 0)

    @classmethod
    def from_environment(cls) -> Endpoint:
        """The endpoint that the environment variables name; the same object, and so one budget, for the same values.

        Raises:
            BenchError: one is missing or makes no sense; the message says which to set.
        """
        model, key = (os.environ.get(name, "").strip() for name in ("QSFT_BENCH_LLM", "OPENAI_API_KEY"))
        missing = [name for name, value in (("OPENAI_API_KEY", key), ("QSFT_BENCH_LLM", model)) if not value]
        if missing:
            raise BenchError(
                f"no language model is set up: set {' and '.join(missing)} (the key and the model's name), and OPENAI_BASE_URL "
                "if it is not OpenAI's own; or QSFT_BENCH_LLM_LOCAL to play with a model on this machine"
            )
        prices = _number_list("QSFT_BENCH_LLM_PRICES", 2, "0.5,1.5")
        (tokens,) = _number_list("QSFT_BENCH_LLM_TOKENS", 1, "1000000") or (None,)
        (dollars,) = _number_list("QSFT_BENCH_LLM_DOLLARS", 1, "5") or (None,)
        return _endpoint(
            model,
            key,
            os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI,
            cache_folder("llm"),
            None if prices is None else (prices[0], prices[1]),
            None if tokens is None else int(tokens),
            dollars,
        )

    @property
    def host(self) -> str:
        """Where it is, for people: no credentials that an address may hold."""
        parts = urlsplit(self.base_url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def identity(self) -> dict[str, str]:
        """Model and host."""
        return {"model": self.model, "host": self.host}

    def complete(
        self,
        messages: Messages,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The model's answer, kept or asked for; after `attempts` responses that hold none it counts as empty.

        Args:
            messages: the conversation so far.
            max_tokens: the answer's length at most.
            temperature: 0 for the likeliest answer.
            seed: passed on, for endpoints that honour one; another seed is another request.
            stop: texts at which the answer ends, at most four by the protocol.

        Raises:
            BenchError: the endpoint refuses for good or cannot be reached, the budget is used up, the cache cannot be
                written, or the `openai` package is missing.
        """
        body = self._body(messages, max_tokens, temperature, seed, stop)
        path = self._path(body)
        answer = _kept_answer(path)
        if answer is not None:
            self._count("kept")
            return answer
        answer, usage = self._ask(body)
        if answer is None:
            return ""
        write_json(path, {"host": self.host, "request": body, "answer": answer, "usage": usage})
        return answer

    def complete_many(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """`complete` for each, `workers` at a time, in their order; equal ones are asked once.

        Raises:
            BenchError: as `complete`; answers that came before are kept.
        """

        def one(messages: Messages) -> str:
            return self.complete(messages, max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)

        def all_of(different: list[Messages]) -> list[str]:
            with ThreadPoolExecutor(self.workers) as pool:
                futures = [pool.submit(one, messages) for messages in different]
                try:
                    return [future.result() for future in futures]
                finally:
                    pool.shutdown(cancel_futures=True)

        return _each_once(conversations, all_of)

    def summary(self) -> str:
        """Who was asked, how often, and what was spent."""
        paid, kept, unreadable = self._counts.values()
        line = f"{self.model} at {self.host}: {paid} answers, {kept} from the cache, {self._ledger.summary()}"
        return line + (f"; {unreadable} unreadable" if unreadable else "")

    def _body(
        self, messages: Messages, max_tokens: int, temperature: float, seed: int | None, stop: Sequence[str]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{name: _sound(text) for name, text in message.items()} for message in messages],
            "max_tokens": max_tokens,
            "temperature": float(temperature),
        }
        if seed is not None:
            body["seed"] = seed
        if stop:
            body["stop"] = list(stop)
        return body

    def _path(self, body: dict[str, Any]) -> Path:
        return self.cache / f"{json_sha256([self.base_url, body])}.json"

    def _ask(self, body: dict[str, Any]) -> tuple[str | None, dict[str, int]]:
        """Send the request until it is answered; None where every answer was none.

        Raises:
            BenchError: as `complete`.
        """
        openai = _openai()
        prompt = sum(len(message["content"].encode()) for message in body["messages"]) // BYTES_A_TOKEN + 1
        failure = ""
        for attempt in range(self.attempts):
            wait = 2.0**attempt
            with self._ledger.request((prompt, body["max_tokens"])) as count:
                try:
                    raw = self._client.chat.completions.with_raw_response.create(**body)
                    answer, usage = _read_answer(raw.text, prompt)
                    count(usage["prompt_tokens"], usage["completion_tokens"])
                    if answer is not None:
                        self._count("paid")
                        return answer, usage
                    failure = ""
                    self._count("unreadable")
                except openai.APITimeoutError:
                    count(prompt, body["max_tokens"])  # it may have been answered, and be billed
                    failure = f"did not answer within {self.timeout:g} s"
                except openai.APIConnectionError as error:
                    failure = f"cannot be reached ({self._public(error.__cause__ or error)})"
                except openai.APIStatusError as error:
                    failure = self._refusal(error)
                    wait = max(wait, _asked_wait(error.response.headers))
            if attempt + 1 < self.attempts:
                if wait > LONGEST_WAIT:
                    raise BenchError(f"{self.host} {failure} and asks to wait {wait:.0f} s; come back then (answers are kept)")
                self.sleep(wait)
        if failure:
            raise BenchError(f"{self.host} {failure}, {self.attempts} times; try again later (answers are kept)")
        return None, {}

    def _refusal(self, error: Any) -> str:
        """What a status that may pass says.

        Raises:
            BenchError: it is one that will not.
        """
        status, said = error.status_code, self._public(error)
        if status in (401, 403):
            raise BenchError(
                f"{self.host} refuses the key ({status}): set OPENAI_API_KEY to one that may use {self.model}"
            ) from None
        if status == 404:
            raise BenchError(
                f"{self.host} has no {self.model} at that address (404: {said}): check QSFT_BENCH_LLM and OPENAI_BASE_URL"
            ) from None
        if status == 429 and getattr(error, "code", None) == "insufficient_quota":
            raise BenchError(f"{self.host}: the account's quota is used up (429): {said}") from None
        if status not in RETRIED and status < 500:
            raise BenchError(f"{self.host} refuses the request ({status}): {said}") from None
        return f"answers {status}"

    def _public(self, error: BaseException) -> str:
        """An error's first words, without the key, which some servers repeat."""
        return _brief(str(error).replace(self.key, "(key)"))

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    @cached_property
    def _client(self) -> Any:
        return _openai().OpenAI(api_key=self.key, base_url=self.base_url, timeout=self.timeout, max_retries=0)


@lru_cache
def _endpoint(*values: Any) -> Endpoint:
    return Endpoint(*values)


def _openai() -> Any:
    """The client library."""
    try:
        import openai
    except ImportError as error:
        raise BenchError(f"prompted models need the openai package ({error}): pip install 'qsft-bench[llm]'") from error
    return openai


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        return False


def _number_list(name: str, count: int, example: str) -> list[float] | None:
    """`count` numbers from an environment variable, or None where it is not set."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise BenchError(f"{name}={text!r} makes no sense: write it as {example}")
    return numbers


def _kept_answer(path: Path) -> str | None:
    """The answer in a cache file, or None where there is none or the file is damaged."""
    try:
        found = read_json(path)
    except BenchError:
        return None
    answer = found.get("answer") if isinstance(found, dict) else None
    return answer if isinstance(answer, str) else None


def _read_answer(text: str, prompt: int) -> tuple[str | None, dict[str, int]]:
    """The answer in a response's text, or None where there is none, and the tokens it took (estimated where it does not say).

    Args:
        prompt: estimate of the prompt's tokens.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    answer = _at(found, "choices", 0, "message", "content")
    answer = _sound(answer) if isinstance(answer, str) else None
    estimates = {"prompt_tokens": prompt, "completion_tokens": len((answer or "").encode()) // BYTES_A_TOKEN}
    usage = {name: _at(found, "usage", name) for name in estimates}
    return answer, {name: value if type(value) is int and value >= 0 else estimates[name] for name, value in usage.items()}


def _at(value: Any, *keys: str | int) -> Any:
    """`value[k0][k1]...`, or None where there is no such thing."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` asks for, a number or a date; 0 where it asks for nothing readable."""
    text = headers.get("retry-after", "").strip()
    try:
        return (
            float(text)
            if text.replace(".", "", 1).isdecimal()
            else email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        )
    except ValueError:
        return 0.0


def _brief(error: object) -> str:
    """The beginning of an error's text, on one line."""
    return " ".join(str(error).split())[:300]


def _sound(text: str) -> str:
    """`text` with lone surrogates, which no file or request can hold, replaced."""
    return text.encode(errors="replace").decode()


def _each_once(conversations: Sequence[Messages], answers: Callable[[list[Messages]], list[str]]) -> list[str]:
    """The answers to all conversations, from those to the different ones."""
    keys = [json.dumps([dict(message) for message in messages], sort_keys=True) for messages in conversations]
    different = dict(zip(keys, conversations, strict=True))
    found = dict(zip(different, answers(list(different.values())) if different else [], strict=True))
    return [found[key] for key in keys]


# Models on this machine -----------------------------------------------------------------------------------------------


class LocalModel:
    """A causal model of `transformers`, read from safetensors; no code that comes with it is run.

    The conversation goes through the tokenizer's chat template where it has one; else its texts stand one after the other,
    an empty line between them. Prompts that are too long lose their beginning.

    Args:
        name: folder, or name on the hub.
        device: e.g. `cpu` or `cuda`.
        batch_size: conversations continued side by side (answers at temperature 0 depend on it by rounding only; others are
            drawn one at a time).

    Raises:
        BenchError: it cannot be loaded.
    """

    def __init__(self, name: str, device: str = "cpu", batch_size: int = 16) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.name = name
        self.device = device
        self.batch_size = batch_size
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False, use_safetensors=True)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise BenchError(
                f"{name} cannot be loaded as a causal language model ({_brief(error)}); QSFT_BENCH_LLM_LOCAL takes a folder "
                "with config.json, a tokenizer and model.safetensors, or the name of such a model on the hub"
            ) from error
        self._model.to(device).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._answers = 0

    @cached_property
    def identity(self) -> dict[str, str]:
        """Its name, and the hash of its files or the hub's revision."""
        files = sorted(path for path in Path(self.name).glob("*") if path.suffix in (".json", ".safetensors", ".jinja", ".txt"))
        if files:
            return {"model": Path(self.name).name, "files": json_sha256([(path.name, file_sha256(path)) for path in files])}
        return {"model": self.name, "revision": str(getattr(self._model.config, "_commit_hash", ""))}

    def complete(
        self,
        messages: Messages,
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """The model's answer; arguments as `Endpoint.complete`, `seed` 0 if it is None."""
        return self.complete_many([messages], max_tokens=max_tokens, temperature=temperature, seed=seed, stop=stop)[0]

    def complete_many(
        self,
        conversations: Sequence[Messages],
        *,
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> list[str]:
        """`complete` for each, in their order; equal ones are answered once."""
        size = 1 if temperature else self.batch_size

        def all_of(different: list[Messages]) -> list[str]:
            prompts = [self._prompt(messages) for messages in different]
            by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))  # little padding
            found = [""] * len(prompts)
            for start in range(0, len(prompts), size):
                chosen = by_length[start : start + size]
                texts = self._generate([prompts[index] for index in chosen], max_tokens, temperature, seed or 0, list(stop))
                for index, text in zip(chosen, texts, strict=True):
                    found[index] = text
            return found

        answers = _each_once(conversations, all_of)
        self._answers += len(answers)
        return answers

    def summary(self) -> str:
        """Who was asked, how often."""
        return f"{self.identity['model']} on {self.device}: {self._answers} answers"

    def _prompt(self, messages: Messages) -> list[int]:
        """The conversation's token ids."""
        sound = [{name: _sound(text) for name, text in message.items()} for message in messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(sound, tokenize=False, add_generation_prompt=True)
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self._tokenizer("\n\n".join(message["content"] for message in sound))["input_ids"])

    def _generate(
        self, prompts: Sequence[list[int]], max_tokens: int, temperature: float, seed: int, stop: list[str]
    ) -> list[str]:
        """What follows each of the prompts, up to the first of `stop`."""
        import torch

        context = getattr(self._model.config, "max_position_embeddings", None)
        if context is not None:
            max_tokens = min(max_tokens, context // 2)
            prompts = [prompt[-(context - max_tokens) :] for prompt in prompts]
        batch = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self.device)
        draws = (
            {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
        )
        length = batch["input_ids"].shape[1]

        def stopped(ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
            texts = self._tokenizer.batch_decode(ids[:, length:])
            return torch.tensor([any(end in text for end in stop) for text in texts], device=ids.device)

        with torch.inference_mode(), torch.random.fork_rng():  # generate draws from the global generator: it is given back
            torch.manual_seed(seed)
            ids = self._model.generate(
                **batch,
                max_new_tokens=max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                stopping_criteria=[stopped] if stop else [],
                **draws,
            )
        texts = self._tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)
        return [_until(text, stop) for text in texts]


@lru_cache(maxsize=1)
def local_model(name: str) -> LocalModel:
    """The model called `name`, loaded once."""
    return LocalModel(name)


def _until(text: str, stop: Sequence[str]) -> str:
    """`text` up to the first of `stop`."""
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]
