"""The players: the expert's errors are those asked for, as often as asked for."""

from __future__ import annotations

import pytest

pytest.importorskip("alfworld", reason="needs the extra `alfworld`")
pytest.importorskip("fast_downward", reason="needs textworld[pddl]")

from envs.alfworld import SPEC
from envs.alfworld.behaviour import ERRORS, Erring, Expert, Player, Uniform
from envs.alfworld.env import ALFWorld
from qsft_bench.episode import Episode, Turn
from qsft_bench.errors import BenchError
from qsft_bench.rollout import rollout


def play(player: Player, seeds: range, batch_size: int = 3) -> list[Episode]:
    make = lambda: ALFWorld(games="generated", split="valid_seen", privileged=True)  # noqa: E731
    return list(rollout(player, make, seeds, name="alfworld", batch_size=batch_size))


def actions(episode: Episode) -> list[str]:
    return [str(turn.action) for turn in episode.turns[:-1]]


def test_without_errors_the_data_are_the_experts() -> None:
    expert, erring = play(Expert(), range(6)), play(Erring(errors=0.0), range(6), batch_size=6)
    assert [actions(episode) for episode in expert] == [actions(episode) for episode in erring]
    assert all(episode.success for episode in expert)


def test_errors_are_as_frequent_as_declared() -> None:
    player, episodes = Erring(habit=0.5), 2_000
    wrong = [player.wrong(seed) for seed in range(episodes)]
    for step, share in {**ERRORS, "habit": 0.5}.items():
        assert sum(step in each for each in wrong) / episodes == pytest.approx(share, abs=0.04)  # 3.6 standard errors


def test_the_habit_is_to_look_about_where_an_object_would_be_taken() -> None:
    expert = play(Expert(), range(6))
    for episode, right in zip(play(Erring(errors=0.0, habit=1.0), range(6)), expert, strict=True):
        first = next(turn for turn, action in enumerate(actions(right)) if action.startswith("take "))
        assert actions(episode) == actions(right)[:first] + ["look"] * (30 - first)
        assert episode.truncated and not episode.success


class Forgetful(Erring):
    """Forgets every treatment and the lamp, and nothing else."""

    def wrong(self, seed: int) -> dict[str, float]:
        return dict.fromkeys(("use", "clean", "heat", "cool"), 0.0)


def test_a_forgotten_step_is_never_meant() -> None:
    for episode in play(Forgetful(), range(12)):
        ((column, score),) = episode.scores.items()
        done = actions(episode)
        if column in ("Pick", "Pick2"):
            assert score == 1.0
        elif column != "Examine":
            brought = next(turn for turn, action in enumerate(done) if action.startswith("move "))
            assert not any(action.startswith(("clean", "heat", "cool")) for action in done[:brought])


@pytest.mark.parametrize("tier", SPEC.tiers)
def test_an_episode_depends_on_its_seed_alone(tier: str) -> None:
    player = Erring(**SPEC.tiers[tier].behaviour)
    together, alone = play(player, range(20, 24), batch_size=4), play(player, range(20, 24), batch_size=1)
    assert together == alone
    assert not any(episode.invalid_actions for episode in together)


def test_random_play_is_valid() -> None:
    assert not any(episode.invalid_actions for episode in play(Uniform(), range(3)))


def test_a_player_must_know_the_state() -> None:
    with pytest.raises(BenchError, match="privileged=True"):
        Expert().act([Episode("alfworld", 0, [Turn("You are in the middle of a room.")])])


@pytest.mark.parametrize("wrong", [{"slip": 1.5}, {"habit": -0.1}, {"errors": 2.0}, {"errors": -1.0}, {"obs": "smell"}])
def test_probabilities_and_options_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(BenchError, match=next(iter(wrong))):
        Erring(**wrong)  # type: ignore[arg-type]
