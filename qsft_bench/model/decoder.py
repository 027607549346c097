"""Batched decoding with a KV cache that lives across the turns of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from qsft_bench import noise
from qsft_bench.codec import PAD, Codec, seen
from qsft_bench.episode import Episode, Observation
from qsft_bench.model.cache import empty_cache, feed_next, feeds_rows
from qsft_bench.model.network import Network
from qsft_bench.tokens import prompt

Outputs = Mapping[str, Mapping[str, torch.Tensor]]  # network -> head -> (B, outputs)
Key = tuple[str, int, int]  # of an episode: environment, seed, player


class Policy(NamedTuple):
    """How a token is chosen.

    Attributes:
        logits: from the networks' outputs at the newest token of some rows to their next-token logits (B, V).
        greedy: take the most likely token; else draw with the episode's own noise.
    """

    logits: Callable[[Outputs], torch.Tensor]
    greedy: bool


@dataclass
class _Cohort:
    """Episodes that share one cache. Columns where a row has no token are holes, masked out.

    Attributes:
        keys: which episode each row is.
        fed: per row, the ids already in the cache.
        shown: per row, the observations whose images are in it; empty where observations are text.
        mask: (B, columns) whether a column holds a token of the row.
        caches: network name -> its keys and values.
    """

    keys: list[Key]
    fed: list[list[int]]
    shown: list[list[Observation]]
    mask: torch.Tensor
    caches: dict[str, Any] = field(default_factory=dict)

    def keep(self, rows: list[int]) -> None:
        if rows == list(range(len(self.keys))):
            return
        index = torch.tensor(rows, dtype=torch.long, device=self.mask.device)
        self.keys = [self.keys[row] for row in rows]
        self.fed = [self.fed[row] for row in rows]
        self.shown = [self.shown[row] for row in rows]
        self.mask = self.mask[index]
        for cache in self.caches.values():
            cache.batch_select_indices(index)


class Decoder:
    """Chooses the action tokens of many episodes side by side, feeding each network only what is new.

    Args:
        networks: run in step on the same tokens.
        codec, context, state: as in training.
        prefix: replaces the first id of an episode's prompt (return-conditioned learning), or None.
        constrained: whether an action must be one of `Turn.choices`, where an episode's newest turn has them.

    Attributes:
        narrows: whether rows whose action has ended wait, where a quarter of them have, rather than feed holes, and caches are
            those for wide rows. It pays where a row's work is more than the copies that this takes: with a pretrained model.
    """

    def __init__(
        self,
        networks: Mapping[str, Network],
        codec: Codec,
        context: int,
        state: Literal["transcript", "observation"],
        prefix: int | None = None,
        constrained: bool = False,
    ) -> None:
        self.networks = dict(networks)
        self.codec = codec
        self.context = context
        self.state = state
        self.prefix = prefix
        self.constrained = constrained
        self.narrows = all(network.config.pretrained and feeds_rows(network) for network in networks.values())
        self._cohorts: list[_Cohort] = []

    @property
    def device(self) -> torch.device:
        return next(iter(self.networks.values())).device

    def forget(self, episodes: Sequence[Episode]) -> None:
        """Drop what is cached for these episodes."""
        gone = set(map(_key, episodes))
        for cohort in self._cohorts:
            cohort.keep([row for row, key in enumerate(cohort.keys) if key not in gone])
        self._cohorts = [cohort for cohort in self._cohorts if cohort.keys]

    def decode(self, episodes: Sequence[Episode], logits: Callable[[Outputs], torch.Tensor], greedy: bool) -> list[list[int]]:
        """The ids of one action for each episode, all by one `Policy`."""
        return self.decode_by([Policy(logits, greedy)], episodes)

    @torch.inference_mode()
    def decode_by(self, policies: Sequence[Policy], episodes: Sequence[Episode]) -> list[list[int]]:
        """The ids of one action for each episode, by `policies[episode.player]`: the networks read once for all of them."""
        order = {_key(episode): index for index, episode in enumerate(episodes)}
        if len(order) < len(episodes):
            raise ValueError("an episode stands twice in one batch")
        prompts, shown = self._prompts(episodes)
        self._join(list(order), prompts, shown)
        chosen: list[list[int]] = [[] for _ in episodes]
        for cohort in self._cohorts:
            members = [order[key] for key in cohort.keys]
            seeds = np.array([episodes[index].seed for index in members], np.uint64)
            turns = np.array([len(episodes[index].turns) - 1 for index in members], np.uint64)
            players = np.array([episodes[index].player for index in members])
            new = [prompts[index][len(fed) :] for index, fed in zip(members, cohort.fed, strict=True)]
            seen_now = [shown[index][len(before) :] for index, before in zip(members, cohort.shown, strict=True)]
            senses = self._senses(seen_now)
            cohort.shown = [[*before, *now] for before, now in zip(cohort.shown, seen_now, strict=True)]
            spelt = [self.choices(episodes[index]) for index in members]
            rows, going = np.arange(len(members)), np.ones(len(members), bool)
            for token in range(self.codec.action_limit):
                outputs = self._feed(cohort, rows, new, senses if token == 0 else {})
                # Where nothing is listed one row does for all: a copy of 50,000 for each would take longer than the network.
                allowed = self.codec.playable[None]
                if any(spelt):
                    allowed = self._allowed([spelt[row] for row in rows], [chosen[members[row]] for row in rows])
                picked = np.empty(len(rows), np.int64)
                for player in np.unique(players[rows]):
                    own, policy = np.flatnonzero(players[rows] == player), policies[player]
                    scores = _scores(policy, outputs, allowed, None if len(own) == len(rows) else own)
                    places = rows[own]
                    picked[own] = _pick(scores, None if policy.greedy else noise.uniform(seeds[places], turns[places], token))
                for row, id in zip(rows, picked, strict=True):
                    if going[row]:
                        chosen[members[row]].append(int(id))
                going[rows] &= ~self.codec.ends[picked]
                if not going.any():
                    break
                if self.narrows and going.sum() <= 0.75 * len(rows):
                    rows, picked = rows[going[rows]], picked[going[rows]]
                new = [[int(id)] if going[row] else [] for row, id in zip(rows, picked, strict=True)]
        return chosen

    def choices(self, episode: Episode) -> list[tuple[int, ...]] | None:
        """The ids of every action that may be chosen now, or None where any may.

        What the codec cannot spell is left out; where it can spell none of them, any may be chosen. (A list that is open-ended,
        such as a search for any words, would be said by a prefix here.)
        """
        listed = episode.turns[-1].choices
        if not self.constrained or listed is None:
            return None
        return [ids for text in listed if (ids := self.codec.spell(text)) is not None] or None

    def allowed(self, episodes: Sequence[Episode], begun: Sequence[Sequence[int]] | None = None) -> NDArray[np.bool_]:
        """Which ids may come next, (B, V), where each action was `begun` with some."""
        return self._allowed([self.choices(episode) for episode in episodes], begun or [[] for _ in episodes])

    def _allowed(self, spelt: Sequence[Sequence[tuple[int, ...]] | None], begun: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
        allowed = np.tile(self.codec.playable, (len(spelt), 1))
        for row, (choices, ids) in enumerate(zip(spelt, begun, strict=True)):
            count = len(ids)
            following = {each[count] for each in choices or () if len(each) > count and list(each[:count]) == list(ids)}
            if following:  # empty also once the action has ended
                allowed[row] = False
                allowed[row, list(following)] = True
        return allowed

    @torch.inference_mode()
    def peek(self, episodes: Sequence[Episode], begun: Sequence[Sequence[int]] | None = None) -> Outputs:
        """Every head's output (B, outputs) at the newest token of each episode; nothing is cached or chosen.

        Args:
            begun: the ids of the action that have been chosen already, by episode.
        """
        rows, shown = self._prompts(episodes)
        senses = self._senses(shown)
        if begun is not None:
            rows = [[*row, *ids] for row, ids in zip(rows, begun, strict=True)]
        width = max(map(len, rows))
        ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows], device=self.device)
        position = torch.tensor([index * width + len(row) - 1 for index, row in enumerate(rows)], device=self.device)
        return {
            name: network.read(network.hidden(ids, **senses).flatten(0, 1)[position]) for name, network in self.networks.items()
        }

    def _senses(self, shown: Sequence[Sequence[Observation]]) -> dict[str, torch.Tensor]:
        """`images` and `numbers` of the observations of each row, for `Network.hidden`; empty where there are none."""
        found = [seen(observation) for row in shown for observation in row]
        if not found:
            return {}
        images, numbers = zip(*found, strict=True)
        senses = {"images": np.stack(images)}
        if self.codec.slots is not None and self.codec.slots.numbers:
            senses["numbers"] = np.stack(numbers)
        return {name: torch.from_numpy(value).to(self.device) for name, value in senses.items()}

    def _prompts(self, episodes: Sequence[Episode]) -> tuple[list[list[int]], list[list[Observation]]]:
        """The ids before each episode's next action, and the observations in them where these hold images."""
        rows = [prompt(self.codec, one, len(one.turns) - 1, self.context, self.state) for one in episodes]
        ids = [row.ids if self.prefix is None else [self.prefix, *row.ids[1:]] for row in rows]
        if self.codec.slots is None:
            return ids, [[] for _ in rows]
        return ids, [[one.turns[turn].observation for turn in row.shown] for one, row in zip(episodes, rows, strict=True)]

    def _join(self, keys: list[Key], prompts: list[list[int]], shown: list[list[Observation]]) -> None:
        """Keep the rows whose cache is a proper prefix of the prompt; open one new cohort for the rest, the second at most.

        A cache is no prefix where the context was cut, or where a tokenizer spells what was said in other ids than were chosen.
        Where the state is the newest observation nothing is: it replaces what was seen before. Images have equal ids, so they
        are compared as well: two turns that say the same may show something else.
        """
        if self.state == "observation":
            self._cohorts = []
        wanted = dict(zip(keys, zip(prompts, shown, strict=True), strict=True))
        cached: set[Key] = set()
        for cohort in self._cohorts:
            rows = []
            for row, (key, fed, before) in enumerate(zip(cohort.keys, cohort.fed, cohort.shown, strict=True)):
                if key not in wanted or key in cached:
                    continue
                ids, observations = wanted[key]
                if len(fed) < len(ids) and ids[: len(fed)] == fed and _same(observations[: len(before)], before):
                    rows.append(row)
                    cached.add(key)
            cohort.keep(rows)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.keys]
        fresh = [key for key in keys if key not in cached]
        if fresh and len(self._cohorts) > 1:  # each costs a pass a token: the small ones are read anew, together with the fresh
            self._cohorts = [max(self._cohorts, key=lambda cohort: len(cohort.keys))]
            fresh = [key for key in keys if key not in self._cohorts[0].keys]
        if fresh:
            self._cohorts.append(
                _Cohort(
                    fresh,
                    [[] for _ in fresh],
                    [[] for _ in fresh],
                    torch.zeros(len(fresh), 0, dtype=torch.bool, device=self.device),
                )
            )

    def _feed(
        self, cohort: _Cohort, rows: NDArray[np.integer], new: list[list[int]], senses: Mapping[str, torch.Tensor]
    ) -> Outputs:
        """Feed `new` ids of each of `rows`, and what fills their slots; every head's output at the newest token of each.

        A row without new ids feeds a hole; its output means nothing. So do rows that are left out, at no cost.
        """
        width = max(len(ids) for ids in new)
        ids = np.full((len(new), width), PAD, np.int64)
        real = np.zeros((len(new), width), bool)
        places = np.zeros((len(new), width), np.int64)
        for index, (row, values) in enumerate(zip(rows, new, strict=True)):
            count = len(values)
            if count:
                ids[index, width - count :] = values
                real[index, width - count :] = True
                places[index, width - count :] = np.arange(len(cohort.fed[row]), len(cohort.fed[row]) + count)
                cohort.fed[row].extend(values)
        device = cohort.mask.device
        some = None if len(rows) == len(cohort.keys) else torch.from_numpy(rows).to(device)
        columns = torch.zeros(len(cohort.keys), width, dtype=torch.bool, device=device)
        columns[slice(None) if some is None else some] = torch.from_numpy(real).to(device)
        cohort.mask = torch.cat([cohort.mask, columns], dim=1)
        outputs = {}
        for name, network in self.networks.items():
            cache = cohort.caches.get(name)
            if cache is None:
                cache = cohort.caches[name] = empty_cache(network, wide=self.narrows)
            if self.narrows:
                feed_next(cache, some)
            hidden = network.hidden(
                torch.from_numpy(ids).to(device),
                **senses,
                attention_mask=cohort.mask if some is None else cohort.mask[some],
                position_ids=torch.from_numpy(places).to(device),
                past_key_values=cache,
                use_cache=True,
            )
            outputs[name] = network.read(hidden[:, -1])
        return outputs


def _same(left: Sequence[Observation], right: Sequence[Observation]) -> bool:
    """Whether these observations show the same; in play they are the same objects."""

    def equal(one: Observation, other: Observation) -> bool:
        (image, numbers), (image_2, numbers_2) = seen(one), seen(other)
        return np.array_equal(image, image_2) and np.array_equal(numbers, numbers_2)

    return len(left) == len(right) and all(one is other or equal(one, other) for one, other in zip(left, right, strict=True))


def _key(episode: Episode) -> Key:
    return episode.env, episode.seed, episode.player


def _scores(policy: Policy, outputs: Outputs, allowed: NDArray[np.bool_], rows: NDArray[np.integer] | None) -> torch.Tensor:
    """The policy's logits (B, V) at `rows`, or at all if None; -inf for ids that are not `allowed` (B or 1, V)."""
    if rows is not None:
        outputs = {name: {head: found[rows] for head, found in heads.items()} for name, heads in outputs.items()}
        allowed = allowed if len(allowed) == 1 else allowed[rows]
    scores = policy.logits(outputs).double()
    return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)


def _pick(scores: torch.Tensor, draws: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Token of each row of scores (B, V): the greatest, or the one at which the cumulative probability passes `draws`."""
    if draws is None:
        return scores.argmax(-1).cpu().numpy()
    cumulative = torch.softmax(scores, -1).cumsum(-1)
    target = torch.from_numpy(draws).to(scores.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=scores.shape[-1] - 1).cpu().numpy()
