"""Episodes as tokens: rows, and the TokenBatch on which every loss is written.

An episode becomes one or more *rows*. Where the state is the transcript, a row is the whole episode (a longer one than
`context` goes on in further rows that keep the instruction and the newest turns); where the state is the newest
observation, a row is one turn. In a batch the *action tokens* of all rows stand in one flat list of K, in the order of
play, so that the token after an action token is either its neighbour in that list or the end of the episode:

```
row      <bos> Wordle :\\n  hovel\\n 1hb 2ob 3vy 4eg 5lg\\n  level\\n 1lg ...
action                      a0                           a1
position            p0                            p1               the token whose output predicts the action
successor                   a0 -> a1                     a1 -> -1 (done)
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from qsft_bench.codec import PAD, Codec, Slots, seen
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError


def normalise(value: Any, bounds: Sequence[float]) -> Any:
    """A return in the environment's unit on the scale on which `bounds` = (least, greatest) are 0 and 1."""
    low, high = bounds
    return (value - low) / (high - low)


@dataclass(frozen=True)
class Row:
    """One model input: `ids`, of which the tokens at `actions` (turn, first, last + 1) are learned or chosen.

    Attributes:
        shown: the turns whose observations stand in it, in order; where these hold images, each has its places.
    """

    ids: list[int]
    shown: list[int]
    actions: list[tuple[int, int, int]] = field(default_factory=list)


def prompt(codec: Codec, episode: Episode, turn: int, context: int, state: Literal["transcript", "observation"]) -> Row:
    """What stands before the action of `turn`, in training and in play alike: a row without actions.

    At most `context - codec.action_limit` ids. Where the state is the transcript and it is longer, the instruction (the first
    observation, at most half of the room) stays and whole turns are dropped from the oldest on, with their images; an
    observation that alone is too long is cut at its end.
    """
    room = context - codec.action_limit - 1
    if state == "observation":
        return Row([codec.bos, *codec.cut(codec.observation(episode.turns[turn].observation, first=True), room)], [turn])
    instruction = codec.cut(codec.observation(episode.turns[0].observation, first=True), room // 2)
    if turn == 0:
        return Row([codec.bos, *instruction], [0])
    room -= len(instruction) + len(codec.elided)
    newest = codec.cut(codec.observation(episode.turns[turn].observation), room)
    kept: list[tuple[int, ...]] = [newest]
    used = len(newest)
    oldest = turn
    for earlier in range(turn - 1, -1, -1):
        action = codec.action(_taken(episode, earlier))
        observation = codec.observation(episode.turns[earlier].observation) if earlier else ()
        used += len(action) + len(observation)
        if used > room:
            kept.append(codec.elided)
            break
        kept += [action, observation]
        oldest = max(1, earlier)
    ids = [codec.bos, *instruction, *(token for piece in reversed(kept) for token in piece)]
    return Row(ids, [0, *range(oldest, turn + 1)])


def rows(codec: Codec, episode: Episode, context: int, state: Literal["transcript", "observation"]) -> Iterator[Row]:
    """The rows of a finished episode: every action token stands in exactly one of them, after its `prompt`."""
    row: Row | None = None
    for turn in range(episode.length):
        action = codec.action(_taken(episode, turn))
        if row is not None and state == "transcript":
            grown = row.ids + list(codec.observation(episode.turns[turn].observation))
            if len(grown) + codec.action_limit <= context and row.actions[0][0] == 0:
                row.ids[:] = grown
                row.shown.append(turn)
                row.actions.append((turn, len(grown), len(grown) + len(action)))
                row.ids.extend(action)
                continue
        if row is not None:
            yield row
        row = prompt(codec, episode, turn, context, state)
        first = len(row.ids)
        row.actions.append((turn, first, first + len(action)))
        row.ids.extend(action)
    if row is not None:
        yield row


def _taken(episode: Episode, turn: int) -> Action:
    action = episode.turns[turn].action
    if action is None:
        raise ValueError(f"turn {turn} of episode {episode.seed} has no action")
    return action


class Frames:
    """Images by index, in memory.

    Attributes:
        images: (height, width, 3) each, at its index.
    """

    def __init__(self) -> None:
        self.images: list[NDArray[np.uint8]] = []
        self._known: dict[bytes, int] = {}

    def add(self, image: NDArray[np.uint8]) -> int:
        """The index of `image`, which is kept unless an equal one is."""
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        index = self._known.get(digest)
        if index is None:
            index = self._known[digest] = self.keep(image)
        return index

    def keep(self, image: NDArray[np.uint8]) -> int:
        """Keep `image`, whatever there is."""
        self.images.append(image)
        return len(self.images) - 1


@dataclass
class TokenArrays:
    """Many episodes as flat arrays, in memory or memory-mapped; R rows, A action tokens, E episodes.

    Attributes:
        ids: (tokens,) token ids of all rows, one after another.
        row_start: (R + 1,) first token of each row.
        row_action: (R + 1,) first action token of each row.
        episode_row: (E + 1,) first row of each episode.
        place: (A,) where the action token stands, counted from its row's start.
        turn: (A,) its turn.
        last: (A,) whether it ends its utterance.
        reward: (A,) normalised reward paid at it (Assumption 4.1: returns lie in [0, 1]).
        return_to_go: (A,) normalised discounted return from it on.
        log_likelihood: (A,) the behaviour's exact log-likelihood of the utterance it ends, NaN elsewhere or unknown.
        episode_return: (E,) undiscounted return in the environment's own unit.
        images: (F, height, width, 3) every different image once, numbers: (O, P) of the observations in the rows, one row after
            another; each None where there are none.
        frame: (O,) which of the images each observation has, row_frame: (R + 1,) first observation of each row; both None where
            the state is the newest observation: row r then shows image r.
    """

    ids: NDArray[np.integer]
    row_start: NDArray[np.int64]
    row_action: NDArray[np.int64]
    episode_row: NDArray[np.int64]
    place: NDArray[np.integer]
    turn: NDArray[np.integer]
    last: NDArray[np.bool_]
    reward: NDArray[np.float32]
    return_to_go: NDArray[np.float32]
    log_likelihood: NDArray[np.float32]
    episode_return: NDArray[np.float32]
    images: NDArray[np.uint8] | None = None
    numbers: NDArray[np.float32] | None = None
    frame: NDArray[np.uint32] | None = None
    row_frame: NDArray[np.int64] | None = None

    @classmethod
    def names(cls, slots: Slots | None = None, state: Literal["transcript", "observation"] = "transcript") -> list[str]:
        """The names of the arrays that there are."""
        shown = {
            "images": slots is not None,
            "numbers": slots is not None and slots.numbers > 0,
            "frame": slots is not None and state == "transcript",
            "row_frame": slots is not None and state == "transcript",
        }
        return [field.name for field in fields(cls) if shown.get(field.name, True)]

    @classmethod
    def encode(
        cls,
        episodes: Iterable[Episode],
        codec: Codec,
        *,
        context: int,
        state: Literal["transcript", "observation"],
        discount: float,
        return_bounds: tuple[float, float],
        frames: Frames | None = None,
    ) -> Self:
        """Encode finished episodes.

        Rewards are normalised by `return_bounds` = (least, greatest return of the dataset, unless the environment declares
        others), so that a return lies in [0, 1] or counts as an end of it. Where the state is the transcript and the
        discount 1, the whole return is paid at the last token; elsewhere every reward is paid where it fell and the offset at
        the end.

        Args:
            frames: keeps the images, whose indices then go on from those that it has; `images` if not given.

        Raises:
            BenchError: no episode, no room for an action or for images, or the bounds do not bound anything.
        """
        low, high = return_bounds
        if context < codec.action_limit + 2:
            raise BenchError(
                f"a context of {context} has no room for actions of {codec.action_limit} tokens; choose a larger one"
            )
        if not high > low:
            raise BenchError(f"every episode returned {low}: there is nothing to learn values from; use another dataset")
        room = (context - codec.action_limit - 1) // (2 if state == "transcript" else 1)  # for any one observation, at least
        if room - len(codec.elided) < codec.least:
            what = f"images of {codec.slots.image_tokens} tokens" if codec.slots else f"{codec.least} tokens of a chat's format"
            raise BenchError(
                f"a context of {context} has no room for {what} beside actions of {codec.action_limit}; choose a larger one "
                "(--scale.context)"
            )
        at_end = state == "transcript" and discount == 1
        kept = Frames() if frames is None else frames
        frame, numbers, row_frame = [], [], [0]
        dtype = np.uint16 if codec.size <= 2**16 else np.uint32
        ids: list[int] = []
        row_start, row_action, episode_row = [0], [0], [0]
        place, turns, last, reward, to_go, likelihood, returns = [], [], [], [], [], [], []  # type: ignore[var-annotated]
        for episode in episodes:
            total = episode.total_return
            paid = [turn.reward / (high - low) for turn in episode.turns[: episode.length]]
            if at_end:
                paid = [0.0] * (len(paid) - 1) + [(total - low) / (high - low)]
            elif paid:
                paid[-1] -= low / (high - low)
            future = [0.0] * (len(paid) + 1)
            for k in range(len(paid) - 1, -1, -1):
                future[k] = paid[k] + discount * future[k + 1]
            for row in rows(codec, episode, context, state):
                ids += row.ids
                for turn, first, end in row.actions:
                    count = end - first
                    place += range(first, end)
                    turns += [turn] * count
                    last += [False] * (count - 1) + [True]
                    reward += [0.0] * (count - 1) + [paid[turn]]
                    to_go += [future[turn]] * count
                    known = episode.turns[turn].log_likelihood
                    likelihood += [np.nan] * (count - 1) + [np.nan if known is None else known]
                for turn in row.shown if codec.slots is not None else ():
                    image, measured = seen(episode.turns[turn].observation)
                    frame.append(kept.add(image) if state == "transcript" else kept.keep(image))
                    numbers.append(measured)
                row_frame.append(len(frame))
                row_start.append(len(ids))
                row_action.append(len(place))
            episode_row.append(len(row_start) - 1)
            returns.append(total)
        if not returns:
            raise BenchError("there are no episodes to encode")
        return cls(
            ids=np.array(ids, dtype),
            row_start=np.array(row_start, np.int64),
            row_action=np.array(row_action, np.int64),
            episode_row=np.array(episode_row, np.int64),
            place=np.array(place, np.uint16),
            turn=np.array(turns, np.uint16),
            last=np.array(last, np.bool_),
            reward=np.array(reward, np.float32),
            return_to_go=np.array(to_go, np.float32),
            log_likelihood=np.array(likelihood, np.float32),
            episode_return=np.array(returns, np.float32),
            images=np.stack(kept.images) if kept.images else None,
            numbers=np.stack(numbers) if codec.slots is not None and codec.slots.numbers else None,
            frame=np.array(frame, np.uint32) if codec.slots is not None and state == "transcript" else None,
            row_frame=np.array(row_frame, np.int64) if codec.slots is not None and state == "transcript" else None,
        )

    def windows(self, episodes: NDArray[np.int64] | None = None, length: int = 16) -> NDArray[np.int64]:
        """Units of sampling, (W, 3): first row, rows to learn from, rows to read (one more where a successor follows).

        Every row is learned from in exactly one window of at most `length` rows.
        """
        chosen = np.arange(len(self.episode_row) - 1) if episodes is None else np.asarray(episodes, np.int64)
        first, stop = self.episode_row[chosen], self.episode_row[chosen + 1]
        counts = -(-(stop - first) // length)
        episode = np.repeat(np.arange(len(chosen)), counts)
        offset = np.arange(len(episode)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = first[episode] + offset * length
        learned = np.minimum(length, stop[episode] - start)
        read = np.minimum(length + 1, stop[episode] - start)
        return np.stack([start, learned, read], axis=1)

    def batch(self, windows: NDArray[np.int64], discount: float) -> TokenBatch:
        """Collate windows (N, 3) into one TokenBatch on the CPU."""
        start, learned, read = windows.T
        row = np.repeat(start, read) + _ranges(read)
        window = np.repeat(np.arange(len(windows)), read)
        learn_row = _ranges(read) < np.repeat(learned, read)
        length = self.row_start[row + 1] - self.row_start[row]
        width = int(length.max())
        columns = np.arange(width)
        inside = columns < length[:, None]
        flat = np.where(inside, self.row_start[row][:, None] + columns, 0)
        ids = np.where(inside, self.ids[flat].astype(np.int64), PAD)

        counts = self.row_action[row + 1] - self.row_action[row]
        source = np.repeat(self.row_action[row], counts) + _ranges(counts)  # (K,) into the action arrays
        batch_row = np.repeat(np.arange(len(row)), counts)
        place = self.place[source].astype(np.int64)
        episode = np.searchsorted(self.episode_row, row[batch_row], side="right") - 1
        final = self.row_action[self.episode_row[episode + 1]] - 1
        done = source == final
        index = np.arange(len(source))
        followed = np.zeros(len(source), bool)
        followed[:-1] = window[batch_row[1:]] == window[batch_row[:-1]]
        last = self.last[source]
        return TokenBatch(
            ids=torch.from_numpy(ids),
            mask=torch.from_numpy(inside),
            position=torch.from_numpy(batch_row * width + place - 1),
            action=torch.from_numpy(ids[batch_row, place]),
            turn=torch.from_numpy(self.turn[source].astype(np.int64)),
            last=torch.from_numpy(last),
            reward=torch.from_numpy(self.reward[source]),
            return_to_go=torch.from_numpy(self.return_to_go[source]),
            episode_return=torch.from_numpy(self.episode_return[episode]),
            log_likelihood=torch.from_numpy(self.log_likelihood[source]),
            discount=torch.from_numpy(np.where(last, discount, 1.0).astype(np.float32)),
            done=torch.from_numpy(done),
            successor=torch.from_numpy(np.where(followed & ~done, index + 1, -1)),
            learn=torch.from_numpy(learn_row[batch_row] & (done | followed)),
            **self._shown(row),
        )

    def _shown(self, row: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """`images`, `frame` and `numbers` of the observations in the rows, one row after another."""
        if self.images is None:
            return {}
        place, found = row, dict[str, NDArray[Any]]()
        if self.row_frame is not None and self.frame is not None:
            counts = self.row_frame[row + 1] - self.row_frame[row]
            place = np.repeat(self.row_frame[row], counts) + _ranges(counts)
            different, found["frame"] = np.unique(self.frame[place], return_inverse=True)
            found["images"] = self.images[different]
        else:
            found["images"] = self.images[place]
        if self.numbers is not None:
            found["numbers"] = self.numbers[place]
        return {name: torch.from_numpy(values) for name, values in found.items()}


def _ranges(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """[0..c0), [0..c1), ... one after another."""
    total = int(counts.sum())
    return np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)


@dataclass
class TokenBatch:
    """B rows of T tokens with K action tokens in the order of play (see the picture above).

    Attributes:
        ids: (B, T) token ids, padded at the right.
        mask: (B, T) whether a token is real.
        position: (K,) index into the flattened (B * T) outputs of the token that predicts the action token.
        action: (K,) the action token's id.
        turn: (K,) its turn; last: (K,) whether it ends its utterance.
        reward: (K,) normalised reward paid at it; return_to_go: (K,) from it on.
        episode_return: (K,) raw return of its episode.
        log_likelihood: (K,) the behaviour's exact one for the utterance it ends, else NaN.
        discount: (K,) the environment's discount where an utterance ends, 1 inside it.
        done: (K,) whether the episode ends with it.
        successor: (K,) index into K of the next action token, -1 at the end.
        learn: (K,) whether it carries loss (false where it only serves as a successor).
        images: (U, height, width, 3) uint8, and frame: (N,) which of them each of the N observations in the rows shows, one row
            after another; None where they are one each in that order (U = N). numbers: (N, P) of the same observations.
            This fills the rows' slots; None where there are none.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    position: torch.Tensor
    action: torch.Tensor
    turn: torch.Tensor
    last: torch.Tensor
    reward: torch.Tensor
    return_to_go: torch.Tensor
    episode_return: torch.Tensor
    log_likelihood: torch.Tensor
    discount: torch.Tensor
    done: torch.Tensor
    successor: torch.Tensor
    learn: torch.Tensor
    images: torch.Tensor | None = None
    numbers: torch.Tensor | None = None
    frame: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> TokenBatch:
        present = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        return TokenBatch(**{name: value.to(device) for name, value in present.items()})

    @property
    def action_mask(self) -> torch.Tensor:
        """(B, T) whether a token is an action token."""
        flat = torch.zeros(self.ids.numel(), dtype=torch.bool, device=self.ids.device)
        flat[self.position + 1] = True
        return flat.view_as(self.ids)

    @property
    def first(self) -> torch.Tensor:
        """(K,) whether it is the first action token of its episode."""
        follows = torch.zeros_like(self.done)
        follows[self.successor[self.successor >= 0]] = True
        return (self.turn == 0) & ~follows

    @property
    def end(self) -> torch.Tensor:
        """(K,) index into K of the last token of each token's utterance."""
        ends = self.last.nonzero().flatten()
        return ends[torch.searchsorted(ends, torch.arange(len(self.last), device=ends.device))]

    def next_value(self, value: torch.Tensor) -> torch.Tensor:
        """`value` (K,) read at each token's successor, 0 where the episode ends."""
        return torch.where(self.done, torch.zeros_like(value), value[self.successor.clamp(min=0)])

    def mean(self, loss: torch.Tensor) -> torch.Tensor:
        """Mean of `loss` (K,) over the tokens that carry loss."""
        return loss[self.learn].mean() if not bool(self.learn.all()) else loss.mean()
