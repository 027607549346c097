"""The cached, batched decoder against one fresh forward pass a token, one episode at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qsft_bench import noise
from qsft_bench.codec import SPECIAL, TextCodec
from qsft_bench.episode import Episode, Turn
from qsft_bench.model import cache
from qsft_bench.model import decoder as module
from qsft_bench.model import network as network_module
from qsft_bench.model.decoder import Decoder, Outputs, Policy
from qsft_bench.model.network import Head, Network, NetworkConfig
from qsft_bench.tokens import prompt

CODEC = TextCodec("characters", ["\n", "a", "b", "c", "d", "e", " "], action_pieces=4, action_limit=4)
CONTEXT = 90
Logits = Callable[[Outputs], torch.Tensor]


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def networks(request: pytest.FixtureRequest) -> Iterator[dict[str, Network]]:
    """Two networks of two layers, so that what a hole computes in one layer could reach tokens in the next."""
    patch = pytest.MonkeyPatch()
    patch.setitem(network_module.SIZES, "two", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64})
    if hasattr(network_module, "EAGER_WIDTH"):
        patch.setattr(network_module, "EAGER_WIDTH", 10_000 if request.param == "eager" else 0)
    torch.manual_seed(0)
    made = {}
    for name in ("policy", "value"):
        made[name] = Network(
            NetworkConfig("two", CODEC.size, CONTEXT, {"policy": Head(CODEC.outputs), "q": Head(CODEC.outputs, 8)})
        )
        for parameter in made[name].parameters():
            parameter.data.mul_(2.0)  # far from uniform, so that tokens matter
        made[name].eval().requires_grad_(False)
    yield made
    patch.undo()


def combined(outputs: Outputs) -> torch.Tensor:
    """Of two networks in step."""
    return outputs["policy"]["policy"] + 0.5 * outputs["value"]["q"]


def double(networks: dict[str, Network]) -> dict[str, Network]:
    copies = {}
    for name, network in networks.items():
        copies[name] = Network(network.config).double()
        copies[name].load_state_dict(network.state_dict())
        copies[name].eval().requires_grad_(False)
    return copies


# A world of ragged observations in which episodes end at different times ----------------------------------------------


def start(seed: int) -> Episode:
    return Episode("talk", seed, [Turn("abcde"[: seed % 6])])


def answer(episode: Episode, action: str) -> None:
    turn = len(episode.turns)
    observation = ("e dc" * 3)[: (episode.seed * 7 + turn * 5 + len(action)) % 8]
    episode.step(action, observation, 0.0, turn >= 2 + episode.seed % 4, False, {})


def scores_of(networks: dict[str, Network], ids: list[int], logits: Logits) -> torch.Tensor:
    outputs = {name: network.read(network.hidden(torch.tensor([ids]))[:, -1]) for name, network in networks.items()}
    scores = logits(outputs)[0].double()
    return torch.where(torch.from_numpy(CODEC.playable), scores, -torch.inf)


def reference(networks: dict[str, Network], episode: Episode, turn: int, logits: Logits, greedy: bool, state: Any) -> list[int]:
    """Ids of the action of `turn`: no cache, no batch."""
    chosen: list[int] = []
    while len(chosen) < CODEC.action_limit and not (chosen and CODEC.ends[chosen[-1]]):
        scores = scores_of(networks, prompt(CODEC, episode, turn, CONTEXT, state).ids + chosen, logits)
        if greedy:
            chosen.append(int(scores.argmax()))
            continue
        draw = float(noise.uniform(episode.seed, turn, len(chosen)))
        chosen.append(int((scores.softmax(-1).cumsum(-1) > draw).nonzero()[0]))
    return chosen


def play(decoder: Decoder, seeds: Sequence[int], logits: Logits, greedy: bool, present: Callable[[int, int], bool]) -> Any:
    """Play to the end; `present(round, seed)` says who takes part in a round. Returns the episodes and their ids by turn."""
    episodes = [start(seed) for seed in seeds]
    spoken: dict[int, list[list[int]]] = {seed: [] for seed in seeds}
    for number in range(100):
        waiting = [episode for episode in episodes if not episode.done]
        if not waiting:
            break
        here = [episode for episode in waiting if present(number, episode.seed)] or waiting
        for episode, ids in zip(here, decoder.decode(here, logits, greedy), strict=True):
            spoken[episode.seed].append(ids)
            answer(episode, CODEC.decode(ids))
        decoder.forget([episode for episode in here if episode.done])
    assert all(episode.done for episode in episodes)
    return episodes, spoken


@pytest.mark.parametrize("narrows", [False, True])
@pytest.mark.parametrize("state", ["transcript", "observation"])
@pytest.mark.parametrize("greedy", [False, True])
def test_tokens_are_exactly_those_of_fresh_forward_passes(
    networks: dict[str, Network], state: Any, greedy: bool, narrows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LEAST_ROOM", 2)
    exact = double(networks)
    decoder = Decoder(exact, CODEC, CONTEXT, state)
    decoder.narrows = narrows
    episodes, spoken = play(decoder, range(9), combined, greedy, lambda number, seed: True)
    lengths = {len(ids) for turns in spoken.values() for ids in turns}
    assert greedy or len(lengths) > 1, "the example has actions of one length only"
    for episode in episodes:
        for turn, ids in enumerate(spoken[episode.seed]):
            assert ids == reference(exact, episode, turn, combined, greedy, state)


@settings(max_examples=6)
@given(st.permutations(range(7)), st.integers(0, 2**32))
def test_tokens_do_not_depend_on_who_shares_the_batch(networks: dict[str, Network], seeds: list[int], luck: int) -> None:
    """Episodes come and go at will: those that sat out a round are evicted and read again from the start."""
    exact = double(networks)

    def here(number: int, seed: int) -> bool:
        return float(noise.uniform(luck, number, seed)) > 0.3

    decoder = Decoder(exact, CODEC, CONTEXT, "transcript")
    decoder.narrows = bool(luck % 2)
    _, mixed = play(decoder, seeds, combined, False, here)
    for seed in seeds:
        _, alone = play(Decoder(exact, CODEC, CONTEXT, "transcript"), [seed], combined, False, lambda number, seed: True)
        assert mixed[seed] == alone[seed]


@pytest.mark.parametrize("seeds", [range(1), range(3), range(12)])
def test_logits_agree_in_float32_and_no_hole_is_nan(
    networks: dict[str, Network], seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[float, torch.Tensor] = {}
    pick = module._pick

    def records(scores: torch.Tensor, draws: Any) -> Any:
        assert not scores.isnan().any()
        seen.update(zip(draws.tolist(), scores, strict=True))
        return pick(scores, draws)

    monkeypatch.setattr(module, "_pick", records)
    episodes, spoken = play(Decoder(networks, CODEC, CONTEXT, "transcript"), seeds, combined, False, lambda *key: True)
    for episode in episodes:
        for turn, ids in enumerate(spoken[episode.seed]):
            for token in range(len(ids)):
                expected = scores_of(networks, prompt(CODEC, episode, turn, CONTEXT, "transcript").ids + ids[:token], combined)
                found = seen[float(noise.uniform(episode.seed, turn, token))]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_only_playable_tokens_are_chosen(networks: dict[str, Network]) -> None:
    """Even where the network is certain of a special id."""

    def special(outputs: Outputs) -> torch.Tensor:
        scores = outputs["policy"]["policy"].clone()
        scores[:, : len(SPECIAL)] += 1000
        return scores

    for greedy in (False, True):
        _, spoken = play(Decoder(networks, CODEC, CONTEXT, "transcript"), range(5), special, greedy, lambda *key: True)
        assert all(CODEC.playable[ids].all() for turns in spoken.values() for ids in turns)
        assert all(CODEC.ends[ids].nonzero()[0].tolist() in ([], [len(ids) - 1]) for turns in spoken.values() for ids in turns)


def test_a_prefix_replaces_the_first_id(networks: dict[str, Network]) -> None:
    exact = double(networks)
    wanted = SPECIAL.index("<return 7>")
    episode = start(4)
    (ids,) = Decoder(exact, CODEC, CONTEXT, "transcript", prefix=wanted).decode([episode], combined, True)
    first = scores_of(exact, [wanted, *prompt(CODEC, episode, 0, CONTEXT, "transcript").ids[1:]], combined)
    assert ids[0] == int(first.argmax())


# What is fed ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def fed(networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes (rows, columns) of everything that `policy` reads."""
    shapes: list[tuple[int, int]] = []
    real = networks["policy"].hidden

    def hidden(ids: torch.Tensor, **options: Any) -> torch.Tensor:
        shapes.append(tuple(ids.shape))  # type: ignore[arg-type]
        return real(ids, **options)

    monkeypatch.setattr(networks["policy"], "hidden", hidden)
    return shapes


def test_rows_whose_action_has_ended_wait(networks: dict[str, Network], fed: list[tuple[int, int]]) -> None:
    decoder = Decoder(networks, CODEC, CONTEXT, "transcript")
    assert not decoder.narrows  # a row of a small model costs less than to leave it out
    decoder.narrows = True
    _, spoken = play(decoder, range(12), combined, False, lambda *key: True)
    longer = [sum(len(ids) > token for ids in (turns[0] for turns in spoken.values())) for token in range(4)]
    rows = 12
    for token, count in enumerate(longer):
        rows = count if count <= 0.75 * rows else rows
        assert fed[token][0] == rows
    assert rows < 12, "the example has no action that ends before the others"


def test_a_wide_cache_grows_without_copying_what_it_holds(networks: dict[str, Network]) -> None:
    held = cache.empty_cache(networks["policy"], wide=True)
    plain = cache.empty_cache(networks["policy"], wide=False)
    states = torch.randn(40, 3, 2, 1, 16)
    places = set()
    for column in states:
        for each in (held, plain):
            each.update(column, -column, 0)
        places.add(held.layers[0].keys.data_ptr())
        assert held.layers[0].keys.equal(plain.layers[0].keys) and held.layers[0].values.equal(plain.layers[0].values)
    assert len(places) == 1
    for each in (held, plain):
        each.batch_select_indices(torch.tensor([2, 0]))
        each.update(states[0, :2], states[1, :2], 0)
    assert held.layers[0].keys.equal(plain.layers[0].keys) and held.layers[0].values.equal(plain.layers[0].values)
    cache.feed_next(held, torch.tensor([1]))
    keys, values = held.update(states[2, :1], states[3, :1], 0)
    assert keys[0, :, -1].equal(states[2, 0, :, 0]) and values[0, :, -1].equal(states[3, 0, :, 0]) and keys.shape[-2] == 42
    assert not held.layers[0].keys[0, :, -1].any()


def test_a_later_turn_feeds_only_what_is_new(networks: dict[str, Network], fed: list[tuple[int, int]]) -> None:
    decoder = Decoder(networks, CODEC, CONTEXT, "transcript")
    episode = start(5)
    (ids,) = decoder.decode([episode], combined, False)
    assert fed == [(1, 1 + 5)] + [(1, 1)] * (len(ids) - 1)
    answer(episode, CODEC.decode(ids))
    fed.clear()
    decoder.decode([episode], combined, False)
    observation = CODEC.observation(episode.turns[1].observation)
    assert fed[0] == (1, 1 + len(observation))  # the last token of the action was not fed yet


def test_a_forgotten_episode_is_read_again(networks: dict[str, Network], fed: list[tuple[int, int]]) -> None:
    decoder = Decoder(networks, CODEC, CONTEXT, "transcript")
    left, right = start(5), start(3)
    for episode, ids in zip((left, right), decoder.decode([left, right], combined, False), strict=True):
        answer(episode, CODEC.decode(ids))
    decoder.forget([left])
    fed.clear()
    decoder.decode([left, right], combined, False)
    whole = len(prompt(CODEC, left, 1, CONTEXT, "transcript").ids)
    assert sorted(width for rows, width in fed if rows == 1 and width > 1)[-1] == whole
    decoder.forget([left, right])
    assert not decoder._cohorts


def test_finished_episodes_leave_the_batch(networks: dict[str, Network], fed: list[tuple[int, int]]) -> None:
    play(Decoder(networks, CODEC, CONTEXT, "transcript"), range(8), combined, False, lambda *key: True)
    assert fed[0][0] == 8
    assert fed[-1][0] < 8


def test_an_episode_whose_past_changed_is_read_again(networks: dict[str, Network]) -> None:
    """The same seed played again, with another past: the cache of the first must not answer."""
    exact = double(networks)
    decoder = Decoder(exact, CODEC, CONTEXT, "transcript")
    first = start(5)
    decoder.decode([first], combined, False)
    again = start(5)
    answer(again, "b\n")
    (ids,) = decoder.decode([again], combined, False)
    assert ids == reference(exact, again, 1, combined, False, "transcript")


def test_rows_that_are_read_again_at_different_turns_share_a_cohort(networks: dict[str, Network]) -> None:
    """One after another is told that it said something else, as where a tokenizer spells what was said in other ids."""
    exact = double(networks)
    decoder = Decoder(exact, CODEC, CONTEXT, "transcript")
    episodes = [start(seed) for seed in range(3, 35, 4)]  # of five turns each
    again = 0
    for turn in range(4):
        for index, (episode, ids) in enumerate(zip(episodes, decoder.decode(episodes, combined, False), strict=True)):
            assert ids == reference(exact, episode, turn, combined, False, "transcript")
            said = CODEC.decode(ids)
            other = index % 4 == turn and len(ids) > 1
            again += other
            answer(episode, said.translate(str.maketrans("abc", "bca")) if other else said)
        assert len(decoder._cohorts) <= 2
        assert sorted(key for cohort in decoder._cohorts for key in cohort.keys) == sorted(
            ("talk", e.seed, 0) for e in episodes
        )
    assert again > 3


@pytest.mark.parametrize("narrows", [False, True])
def test_several_players_of_one_seed_choose_what_each_would_by_itself(networks: dict[str, Network], narrows: bool) -> None:
    policies = [Policy(combined, False), Policy(combined, True), Policy(lambda outputs: 3 * outputs["policy"]["policy"], False)]
    seeds = range(6)
    alone = [
        play(Decoder(double(networks), CODEC, CONTEXT, "transcript"), seeds, *policy, lambda *key: True) for policy in policies
    ]
    exact = double(networks)
    decoder = Decoder(exact, CODEC, CONTEXT, "transcript")
    decoder.narrows = narrows
    playing = [replace(start(seed), player=player) for seed in seeds for player in range(len(policies))]
    spoken: dict[tuple[int, int], list[list[int]]] = {(one.player, one.seed): [] for one in playing}
    while playing:
        for one, ids in zip(playing, decoder.decode_by(policies, playing), strict=True):
            spoken[one.player, one.seed].append(ids)
            answer(one, CODEC.decode(ids))
        decoder.forget([one for one in playing if one.done])
        playing = [one for one in playing if not one.done]
    assert spoken == {(player, seed): alone[player][1][seed] for player, seed in spoken}
    assert len({str(turns) for turns in spoken.values()}) > len(seeds), "the policies all say the same"


def test_an_episode_may_not_stand_twice_in_a_batch(networks: dict[str, Network]) -> None:
    with pytest.raises(ValueError, match="twice in one batch"):
        Decoder(networks, CODEC, CONTEXT, "transcript").decode([start(1), start(1)], combined, True)


# Drawing --------------------------------------------------------------------------------------------------------------


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64).log().expand(5, 4)
    draws = np.array([0.0, 0.49999, 0.5, 0.99999, np.nextafter(1, 0)])
    assert module._pick(scores, draws).tolist() == [1, 1, 3, 3, 3]
    assert module._pick(scores, None).tolist() == [1] * 5


def test_draws_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    count = 20_000
    picked = module._pick(probabilities.log().expand(count, 4), noise.uniform(np.arange(count), 0))
    shares = np.bincount(picked, minlength=4) / count
    assert shares == pytest.approx(probabilities.numpy(), abs=4 * 0.5 / np.sqrt(count))
    assert shares[1] == 0
