"""Codecs: what is observed and done, as token ids, and back.

An image stands before the text that came with it: what an action follows from at once is the newest line, as without images,
and what is cut where an observation is too long is the end of its text, never an image.

```
row      <bos> image x image_tokens Wordle :\\n  hovel\\n image x image_tokens 1hb 2ob 3vy 4eg 5lg\\n  level\\n ...
```
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from qsft_bench.chat import ChatFormat
from qsft_bench.control import check_bins, dequantise, quantise
from qsft_bench.episode import Action, Episode, Observation, brief
from qsft_bench.errors import BenchError
from qsft_bench.files import json_sha256
from qsft_bench.weights import LOAD_ERRORS, config_of, folder, processor, processor_sha256, tokenizer_sha256

RETURN_BINS = 20
IMAGE_TOKENS = 8  # as RT-1's TokenLearner
PAD, BOS, UNKNOWN, DUMMY = range(4)
SPECIAL = ("<pad>", "<bos>", "<unk>", "<dummy>", *(f"<return {k}>" for k in range(RETURN_BINS)))


@dataclass(frozen=True)
class Slots:
    """What a row holds beside token ids, for every observation: an image as several tokens, and measured numbers as one.

    Attributes:
        image: its shape, (height, width, 3).
        image_tokens: how many tokens it takes in a row; a network's stem makes them.
        numbers: how many numbers there are, 0 for none.
        image_id, numbers_id: the ids that keep their places in a row; without numbers, the latter is none (-1).
        sees: what a network is shown, `both`, `image` or `numbers`; the other is blank (to find out what can be learned from).
    """

    image: tuple[int, int, int]
    image_tokens: int
    numbers: int
    image_id: int
    numbers_id: int
    sees: Literal["both", "image", "numbers"] = "both"

    @property
    def ids(self) -> tuple[int, ...]:
        """What keeps the places of one observation."""
        return (self.image_id,) * self.image_tokens + ((self.numbers_id,) if self.numbers else ())


class Codec(ABC):
    """Text, images or control vectors to token ids and back.

    The first ids of the codecs of this package are the special ones (`SPECIAL`); a pretrained tokenizer's ids are its own, and
    some of them take these parts. Rows are padded with id 0 in any codec: what a causal model cannot see needs no id.

    Attributes:
        size: number of ids.
        outputs: the ids below it are those that actions are made of (and the special ones); models speak only these.
        action_limit: the most tokens of one action; an action ends there or at an end token.
        ends: bool (outputs,), the ids that end an action.
        playable: bool (outputs,), the ids an agent may emit; special ids are not.
        slots: what an observation holds beside ids, or None where it is text.
        bos: the id that every prompt begins with.
        elided: the ids that stand where turns were left out, between the instruction and the oldest turn that is kept.
        dummy: an id below `outputs` that no environment emits and no agent may.
        returns: ids that stand for a return in [0, 1], cut into `RETURN_BINS`, in place of `bos` (return-conditioned learning).
    """

    size: int
    outputs: int
    action_limit: int
    ends: NDArray[np.bool_]
    playable: NDArray[np.bool_]
    slots: Slots | None = None
    bos: int = BOS
    elided: tuple[int, ...] = ()
    dummy: int = DUMMY
    returns: Sequence[int] = tuple(range(SPECIAL.index("<return 0>"), len(SPECIAL)))

    def return_token(self, normalised: NDArray[np.floating] | float) -> NDArray[np.int64]:
        """Id that stands for a return in [0, 1]."""
        bins = np.floor(np.clip(normalised, 0, 1) * RETURN_BINS).astype(np.int64)
        return np.asarray(self.returns, np.int64)[np.minimum(bins, RETURN_BINS - 1)]

    @abstractmethod
    def observation(self, observation: Observation, first: bool = False) -> tuple[int, ...]:
        """Ids of one observation.

        Args:
            first: whether it is the first in its row, after `bos`.
        """

    def cut(self, ids: tuple[int, ...], room: int) -> tuple[int, ...]:
        """An observation's ids where there is room for so many (`least` or more): what goes is its end."""
        return ids[:room]

    @property
    def least(self) -> int:
        """Ids of an observation without its text."""
        return len(self.slots.ids) if self.slots else 0

    @abstractmethod
    def action(self, action: Action) -> tuple[int, ...]:
        """Ids of one action, at least one, at most `action_limit`."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> Action:
        """The action that `ids` spell."""

    def spell(self, text: str) -> tuple[int, ...] | None:
        """Ids that an agent may emit to say exactly `text`, the sign that ends an action added if it lacks; None if none do."""
        return None

    def label(self, token: int) -> str:
        """What one token of an action says: a piece of text as it is, a number as `+0.25`, a special id by its name."""
        if token < len(SPECIAL):
            return SPECIAL[token]
        spelt = self.decode([token])
        return spelt if isinstance(spelt, str) else brief(spelt)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON form, read back by `codec_from_config`."""

    @property
    def sha256(self) -> str:
        return json_sha256(self.config())


class _Reader(Codec):
    """A codec of text, alone or with an image before it; each text is cut into ids once.

    Attributes:
        reader: what its errors call it.
    """

    reader: str

    def __init__(self) -> None:
        self._cache: dict[str, tuple[int, ...]] = {}

    @abstractmethod
    def _cut(self, text: str) -> tuple[int, ...]:
        """Ids of a text."""

    def observation(self, observation: Observation, first: bool = False) -> tuple[int, ...]:
        places, text = _places_and_text(observation, self.slots, self.reader)
        return places + self._read(text)

    def _read(self, text: str) -> tuple[int, ...]:
        found = self._cache.get(text)
        if found is None:
            found = self._cut(text)
            if len(self._cache) < 1_000_000:
                self._cache[text] = found
        return found


class TextCodec(_Reader):
    """A small closed vocabulary of words or characters, learned from a dataset and then frozen.

    A word keeps the space before it and the newline after it, so that text survives the round trip exactly and an
    utterance such as `hovel\\n` is one id that also ends it. Text outside the vocabulary becomes `<unk>`.

    Args:
        level: `words` or `characters`.
        vocabulary: the pieces, without the special ids; those of actions first.
        action_pieces: how many of them occur in actions.
        action_limit: the most tokens of one action.
        image: shape of the image that comes with every text, (height, width, 3), or None where there is text alone.
        image_tokens: how many tokens an image takes.
    """

    PATTERNS: ClassVar[Mapping[str, re.Pattern[str]]] = {
        "words": re.compile(r" ?\w+(?:'\w+)*\n?| ?[^\w\s]+\n?|\s"),
        "characters": re.compile(r".", re.DOTALL),
    }

    def __init__(
        self,
        level: str,
        vocabulary: Sequence[str],
        action_pieces: int,
        action_limit: int,
        image: Sequence[int] | None = None,
        image_tokens: int = IMAGE_TOKENS,
    ) -> None:
        super().__init__()
        self.level = level
        self.reader = f"the {level} codec"
        self.vocabulary = tuple(vocabulary)
        self.action_pieces = action_pieces
        self.action_limit = action_limit
        self.size = len(SPECIAL) + len(self.vocabulary)
        if image is not None:
            self.slots = _image_alone(image, image_tokens, self.size)
            self.size += 1
        self.outputs = len(SPECIAL) + action_pieces
        self.ends = np.array([False] * len(SPECIAL) + [piece.endswith("\n") for piece in self.vocabulary[:action_pieces]])
        self.playable = np.arange(self.outputs) >= len(SPECIAL)
        self._ids = {piece: len(SPECIAL) + k for k, piece in enumerate(self.vocabulary)}

    @classmethod
    def pieces(cls, level: str, text: str) -> list[str]:
        """`text` cut into pieces; joined they give `text` back."""
        return cls.PATTERNS[level].findall(text)

    @classmethod
    def learn(
        cls,
        level: str,
        texts: Mapping[str, int],
        actions: Iterable[str],
        limit: int = 4096,
        image: Sequence[int] | None = None,
    ) -> Self:
        """The most frequent pieces of `texts` (text -> count), ties by alphabet.

        Args:
            actions: every different action among the texts.
            limit: most ids, the special ones included.
            image: shape of the image that comes with every text, or None.

        Raises:
            BenchError: unknown level, or no text at all.
        """
        if level not in cls.PATTERNS:
            raise BenchError(f"unknown codec {level!r}; known: {', '.join(cls.PATTERNS)}")
        counts: Counter[str] = Counter()
        for text, count in texts.items():
            for piece in cls.pieces(level, text):
                counts[piece] += count
        if not counts:
            raise BenchError("the dataset holds no text to learn a vocabulary from; generate it again")
        kept = sorted(counts, key=lambda piece: (-counts[piece], piece))[: limit - len(SPECIAL)]
        spoken = [cls.pieces(level, action) for action in actions]
        speech = {piece for pieces in spoken for piece in pieces}
        vocabulary = sorted(kept, key=lambda piece: (piece not in speech, piece))
        return cls(level, vocabulary, len(speech & set(kept)), max([1, *map(len, spoken)]), image)

    def _cut(self, text: str) -> tuple[int, ...]:
        return tuple(self._ids.get(piece, UNKNOWN) for piece in self.pieces(self.level, text))

    def action(self, action: Action) -> tuple[int, ...]:
        if not isinstance(action, str):
            raise BenchError(f"{self.reader} takes text, not {type(action).__name__}")
        ids = self._read(action)[: self.action_limit] or (UNKNOWN,)
        return tuple(k if k < self.outputs else UNKNOWN for k in ids)

    def spell(self, text: str) -> tuple[int, ...] | None:
        whole = text if text.endswith("\n") else f"{text}\n"
        ids = self.action(whole)
        return ids if self.ends[ids[-1]] and not self.ends[list(ids[:-1])].any() and self.decode(ids) == whole else None

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("\ufffd" if k < len(SPECIAL) else self.vocabulary[k - len(SPECIAL)] for k in ids)

    def config(self) -> dict[str, Any]:
        return {
            "codec": "text",
            "level": self.level,
            "special": list(SPECIAL),
            "vocabulary": list(self.vocabulary),
            "action_pieces": self.action_pieces,
            "action_limit": self.action_limit,
            **_image_config(self.slots),
        }


class PretrainedCodec(_Reader):
    """A pretrained model's own tokenizer. All its ids are outputs: the model's distribution is what learning starts from.

    Prompts begin with the tokenizer's own first token (its last, where it has no first one). An action ends with any token
    whose text ends a line. The dummy is a special token of the tokenizer that stands for something else. A vision-language
    model's image token keeps an image's places, as many as its processor gives images of the one shape that there is.

    With a chat format an observation is what the user says and an action the answer, each without the spaces and the newline at
    its ends; a prompt begins as the format does, its own token ends an action, and none with a newline in it is spoken:

    ```
    <bos> opening Questions: reply Is it alive? <end> again Yes. reply ...
    ```

    Args:
        model: folder, name on the hub, or `pip:` and a package (`qsft_bench.weights`).
        action_limit: the most tokens of one action.
        sha256: of the tokenizer's files; another one is refused. None to take what is there.
        image: shape of the image that comes with every text, (height, width, 3), or None where there is text alone.
        processor_sha256: of the processor's files, where there are images; as `sha256`.
        chat: how the model is spoken to; its tokenizer's own template if true.

    Raises:
        BenchError: there is no tokenizer, another one, or one that is of no use here; or images, and a model that takes none.
    """

    def __init__(
        self,
        model: str,
        action_limit: int,
        sha256: str | None = None,
        image: Sequence[int] | None = None,
        processor_sha256: str | None = None,
        chat: ChatFormat | bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        super().__init__()
        self.model = self.reader = model
        self.action_limit = action_limit
        path = folder(model, whole=False)
        self.tokenizer_sha256 = tokenizer_sha256(path)
        if sha256 not in (None, self.tokenizer_sha256):
            raise BenchError(
                f"{model} has a tokenizer of SHA-256 {self.tokenizer_sha256}, this was made with {sha256}; put the model "
                "back, or train again"
            )
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except LOAD_ERRORS as error:
            raise BenchError(f"the tokenizer in {path} cannot be loaded: {error}") from error
        config = config_of(path)
        self.size = self.outputs = int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 0)
        count = len(self._tokenizer)
        if count > self.size:
            raise BenchError(f"{model} has {self.size:,} ids and a tokenizer of {count:,}: they do not belong together")
        named = {self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, self._tokenizer.pad_token_id} - {None}
        special = sorted(
            {id for id, token in self._tokenizer.added_tokens_decoder.items() if token.special}
            | set(self._tokenizer.all_special_ids)
        )
        if not special or not named:
            raise BenchError(
                f"the tokenizer of {model} has no special token to begin a text with; add one (bos_token) and save it"
            )
        bos = self._tokenizer.bos_token_id
        self.bos = int(
            bos if bos is not None else self._tokenizer.eos_token_id if self._tokenizer.eos_token_id is not None else special[0]
        )
        image_id = config.get("image_token_id", config.get("image_token_index"))
        if chat is True:
            chat = ChatFormat.of(self._tokenizer, self._tokenizer.convert_ids_to_tokens(special), model)
        self.chat = chat or None
        self._opening, self._again, self._reply, self._end = self._frame()
        # As an output; it may be an input as well, as GPT-2's one special token is, for agents emit neither.
        others = [id for id in reversed(special) if id not in (image_id, self._end)] or special
        self.dummy = int(next((id for id in others if id not in named), others[0]))
        if image is not None:
            self.slots = self._images(path, image, image_id, processor_sha256)
        self.playable = np.arange(self.size) < count
        self.playable[special] = False
        texts = self._tokenizer.batch_decode([[id] for id in range(count)], clean_up_tokenization_spaces=False)
        self.ends = np.array([text.endswith("\n") for text in texts] + [False] * (self.size - count)) & self.playable
        if self._end is not None:
            self.playable[:count] &= ["\n" not in text for text in texts]
            self.playable[self._end] = True
            self.ends = np.arange(self.size) == self._end
        if not self.ends.any():
            raise BenchError(f"the tokenizer of {model} has no token for the end of a line, with which actions end")
        self.returns = tuple(self._cut(chr(ord("a") + k))[-1] for k in range(RETURN_BINS))

    @classmethod
    def learn(cls, model: str, actions: Iterable[str], image: Sequence[int] | None = None, chat: bool = False) -> Self:
        """The model's tokenizer, with the longest of `actions` as the limit.

        Args:
            image: shape of the image that comes with every text, or None.
            chat: whether the model is spoken to by its chat template.

        Raises:
            BenchError: an action does not survive it, or the model takes no images.
        """
        codec = cls(model, 1, image=image, chat=chat)
        for action in sorted(actions):
            ids = codec._said(action)
            codec.action_limit = max(codec.action_limit, len(ids))
            if codec.decode(ids) != action:
                raise BenchError(f"the tokenizer of {model} turns {action!r} into {codec.decode(ids)!r}; use another model")
        return codec

    def _images(self, path: Path, image: Sequence[int], image_id: int | None, sha256: str | None) -> Slots:
        """The places of images of one shape, counted with the model's processor."""
        if image_id is None:
            raise BenchError(
                f"{self.model} reads text, not images; choose a vision-language model, as llava-hf/llava-v1.6-mistral-7b-hf, "
                "or the option of the environment that leaves images out"
            )
        self.processor_sha256 = processor_sha256(path)
        if sha256 not in (None, self.processor_sha256):
            raise BenchError(
                f"{self.model} has a processor of SHA-256 {self.processor_sha256}, this was made with {sha256}; put the model "
                "back, or train again"
            )
        made = processor(path)
        blank = np.zeros(tuple(image), np.uint8)
        ids = np.asarray(made(images=[blank], text=[made.image_token], input_data_format="channels_last")["input_ids"][0])
        (places,) = (ids == image_id).nonzero()
        if not len(places) or len(places) != places[-1] - places[0] + 1:
            raise BenchError(f"{self.model} does not give an image places in a row; such models are not built in here")
        return _image_alone(image, len(places), image_id)

    def _cut(self, text: str) -> tuple[int, ...]:
        # Whatever a text says, it spells no special token: those are the codec's to give.
        return tuple(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _frame(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int | None]:
        """Ids of what stands before the first observation, before others and after each, and the one that ends an action."""
        if self.chat is None:
            return (), (), (), None

        def cut(text: str) -> tuple[int, ...]:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False))

        opening, end = cut(self.chat.opening), cut(self.chat.end)
        if opening:
            self.bos, opening = opening[0], opening[1:]
        self.elided = end
        return opening, cut(self.chat.again), cut(self.chat.reply), end[0]

    def observation(self, observation: Observation, first: bool = False) -> tuple[int, ...]:
        if self.chat is None:
            return super().observation(observation)
        places, text = _places_and_text(observation, self.slots, self.reader)
        return (self._opening if first else self._again) + places + self._read(text.strip()) + self._reply

    def cut(self, ids: tuple[int, ...], room: int) -> tuple[int, ...]:
        return ids if len(ids) <= room else ids[: room - len(self._reply)] + self._reply

    @property
    def least(self) -> int:
        return super().least + max(len(self._opening), len(self._again)) + len(self._reply)

    def _said(self, action: str) -> tuple[int, ...]:
        """All ids of an action."""
        return self._read(action) if self._end is None else (*self._read(action.removesuffix("\n")), self._end)

    def action(self, action: Action) -> tuple[int, ...]:
        if not isinstance(action, str):
            raise BenchError(f"{self.model} writes text, not {type(action).__name__}")
        return self._said(action)[: self.action_limit] or (self.dummy,)

    def decode(self, ids: Sequence[int]) -> str:
        ended = self._end is not None and len(ids) > 0 and ids[-1] == self._end
        spelt = list(ids[:-1] if ended else ids)
        text = self._tokenizer.decode(spelt, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return f"{text}\n" if ended else text

    def label(self, token: int) -> str:
        return self.decode([token])

    def config(self) -> dict[str, Any]:
        return {
            "codec": "pretrained",
            "model": self.model,
            "tokenizer": self.tokenizer_sha256,
            "action_limit": self.action_limit,
            **({"image": list(self.slots.image), "processor": self.processor_sha256} if self.slots else {}),
            **({"chat": asdict(self.chat)} if self.chat else {}),
        }


class ControlCodec(Codec):
    """An image and measured numbers as what is seen, a control vector in [-1, 1]^d as what is done: one token a dimension.

    ```
    ids    <bos> image x image_tokens numbers a1 a2 ... ad       every a is one of `bins` bins, the same ids in all dimensions
    ```

    Args:
        bins: of each dimension; odd, so that one of them is exactly 0.
        dimensions: d.
        image: shape of the observation's `image`, (height, width, 3) of uint8.
        numbers: length of its `proprio`, float32.
        image_tokens: how many tokens an image takes.

    Raises:
        BenchError: `bins` is even or below 3.
    """

    def __init__(
        self, bins: int, dimensions: int, image: Sequence[int], numbers: int, image_tokens: int = IMAGE_TOKENS
    ) -> None:
        self.bins = check_bins(bins)
        self.action_limit = dimensions
        self.outputs = len(SPECIAL) + bins
        self.size = self.outputs + 2
        height, width, channels = image
        self.slots: Slots = Slots((height, width, channels), image_tokens, numbers, self.outputs, self.outputs + 1)
        self.ends = np.zeros(self.outputs, bool)
        self.playable = np.arange(self.outputs) >= len(SPECIAL)

    @classmethod
    def learn(cls, bins: int, episode: Episode) -> Self:
        """The codec of the data that `episode` belongs to.

        Raises:
            BenchError: it holds no control vectors, or no observation of an image and numbers.
        """
        turn = episode.turns[0]
        if not isinstance(turn.action, np.ndarray) or not isinstance(turn.observation, Mapping):
            raise BenchError(f"the control codec takes images and control vectors; {episode.env} has text: use words")
        image, numbers = seen(turn.observation)
        return cls(bins, len(turn.action), image.shape, len(numbers))

    def observation(self, observation: Observation, first: bool = False) -> tuple[int, ...]:
        _check_seen(observation, self.slots)
        return self.slots.ids

    def action(self, action: Action) -> tuple[int, ...]:
        values = np.asarray(action, dtype=np.float32)
        if values.shape != (self.action_limit,) or not np.isfinite(values).all():
            raise BenchError(f"the control codec takes {self.action_limit} finite numbers, not the action {values.tolist()}")
        found = quantise(values, self.bins)
        if not np.array_equal(dequantise(found, self.bins), values):
            raise BenchError(
                f"an action {values.tolist()} is not made of {self.bins} bins; use the environment's number of bins"
            )
        return tuple((len(SPECIAL) + found).tolist())

    def decode(self, ids: Sequence[int]) -> NDArray[np.float32]:
        return dequantise(np.asarray(ids) - len(SPECIAL), self.bins)

    def config(self) -> dict[str, Any]:
        return {
            "codec": "control",
            "special": list(SPECIAL),
            "bins": self.bins,
            "dimensions": self.action_limit,
            "image": list(self.slots.image),
            "numbers": self.slots.numbers,
            "image_tokens": self.slots.image_tokens,
        }


def seen(observation: Observation) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Image (H, W, 3) and numbers (P,) of an observation that is a mapping with an `image`, and with `proprio` or none (P = 0).

    Raises:
        BenchError: it is something else.
    """
    if not isinstance(observation, Mapping) or "image" not in observation:
        raise BenchError(f"an observation with an image is needed, not {type(observation).__name__}")
    return np.asarray(observation["image"], np.uint8), np.asarray(observation.get("proprio", ()), np.float32)


def _check_seen(observation: Observation, slots: Slots) -> None:
    """Refuse an observation that does not fit the slots."""
    image, numbers = seen(observation)
    if image.shape != slots.image or numbers.shape != (slots.numbers,):
        raise BenchError(
            f"an observation has an image of {image.shape} and {numbers.shape} numbers, where these agents learned from "
            f"{slots.image} and {(slots.numbers,)}; make the environment with the options of the data"
        )


def _places_and_text(observation: Observation, slots: Slots | None, reader: str) -> tuple[tuple[int, ...], str]:
    """The ids that keep an image's place, and the text, of an observation that is text, or a mapping of `text` and `image`.

    Raises:
        BenchError: it is not what `reader` learned from.
    """
    if slots is None:
        if not isinstance(observation, str):
            what = "text and an image" if isinstance(observation, Mapping) else type(observation).__name__
            raise BenchError(f"{reader} takes text, not {what}; make the environment with the options of the data")
        return (), observation
    if not isinstance(observation, Mapping) or not isinstance(observation.get("text"), str):
        raise BenchError(
            f"{reader} takes text with an image of {slots.image}, not {brief(observation)[:80]}; make the environment with the "
            "options of the data"
        )
    _check_seen(observation, slots)
    return slots.ids, observation["text"]


def _image_alone(image: Sequence[int], image_tokens: int, image_id: int) -> Slots:
    height, width, channels = image
    return Slots((height, width, channels), image_tokens, 0, image_id, -1)


def _image_config(slots: Slots | None) -> dict[str, Any]:
    """What a text codec's configuration says of images; nothing where there are none."""
    return {} if slots is None else {"image": list(slots.image), "image_tokens": slots.image_tokens}


def codec_from_config(config: Mapping[str, Any]) -> Codec:
    """The codec that `Codec.config` described.

    Raises:
        BenchError: unknown kind, special ids other than this version's, or a pretrained tokenizer that is not there.
    """
    kind = config.get("codec")
    if kind not in ("text", "control", "pretrained"):
        raise BenchError(f"unknown codec {kind!r}")
    if kind == "pretrained":
        made = (config["model"], config["action_limit"], config["tokenizer"])
        chat = ChatFormat(**config["chat"]) if "chat" in config else False
        return PretrainedCodec(*made, config.get("image"), config.get("processor"), chat)
    if config["special"] != list(SPECIAL):
        raise BenchError("this codec was made by another version of qsft-bench; make the dataset's tokens again")
    if kind == "control":
        return ControlCodec(*(config[name] for name in ("bins", "dimensions", "image", "numbers", "image_tokens")))
    pictured = {name: config[name] for name in ("image", "image_tokens") if name in config}
    return TextCodec(*(config[name] for name in ("level", "vocabulary", "action_pieces", "action_limit")), **pictured)
