"""TokenAgent: what every token-level learner shares. A learner adds its networks, a loss and a policy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional as F

from qsft_bench.agent import Agent
from qsft_bench.codec import Codec, Slots, codec_from_config
from qsft_bench.dataset.tokens import TokenDataset
from qsft_bench.episode import Action, Episode
from qsft_bench.errors import BenchError, did_you_mean
from qsft_bench.files import atomic_directory, file_sha256, json_sha256, read_json, write_json, write_tensors
from qsft_bench.model.chunks import weighted_sum
from qsft_bench.model.decoder import Decoder, Outputs, Policy
from qsft_bench.model.network import SIZES, Head, Network, NetworkConfig, Networks
from qsft_bench.model.precision import rounded_products
from qsft_bench.preset import Scale
from qsft_bench.tokens import TokenBatch, normalise
from qsft_bench.train import Run, Training, mixed_precision, train
from qsft_bench.weights import note

if TYPE_CHECKING:
    from qsft_bench.train import History

FORMAT = 1
DECODINGS = 8  # that every agent may try on validation seeds


@dataclass(frozen=True)
class Config:
    """Hyperparameters of training; a learner adds its own.

    Attributes:
        training: of the loop.
    """

    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Decoding:
    """How a trained agent plays; chosen on validation seeds, never on test seeds.

    Attributes:
        temperature: divides the policy's logits before sampling.
        greedy: take the most likely token instead of sampling.
    """

    temperature: float = 1.0
    greedy: bool = False

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise BenchError(f"a temperature of {self.temperature} is not above 0; for the most likely token set `greedy`")

    def describe(self) -> str:
        """One short line for tables."""
        return ", ".join(f"{key}={value}" for key, value in asdict(self).items())


def beta_grid(
    kind: type[Decoding],
    sampled: Sequence[float] = (32.0, 64.0, 128.0),
    greedy: Sequence[float] = (8.0, 16.0, 32.0, 64.0, 128.0),
    temperature: float = 1.0,
) -> tuple[Decoding, ...]:
    """Eight decodings for an agent whose policy is pi exp(beta x): as many as the temperatures that imitation chooses from.

    Args:
        kind: makes one from a `beta`.
        sampled, greedy: the betas that are tried either way.
        temperature: of those that are sampled.
    """
    make: Any = kind
    if len(sampled) + len(greedy) != DECODINGS:
        raise ValueError(f"every agent chooses from {DECODINGS} decodings, this grid has {len(sampled) + len(greedy)}")
    return (*(make(beta=beta, temperature=temperature) for beta in sampled), *(make(beta=beta, greedy=True) for beta in greedy))


@dataclass(frozen=True)
class Variant:
    """A named setting of an agent: fields of its `Config` that differ from the default, and its decodings if they do."""

    config: Mapping[str, Any] = field(default_factory=dict)
    grid: Sequence[Decoding] | None = None


class TokenAgent(Agent):
    """An agent that chooses tokens.

    ```python
    class Mine(TokenAgent):
        def build(self, data, run):        self.networks["policy"] = self.network(data, run, {"policy": Head(...)})
        def loss(self, batch):             return batch.mean(...), {"metric": ...}      # batch: TokenBatch
        def policy_logits(self, outputs):  return outputs["policy"]["policy"]           # (B, V)
    ```

    Attributes:
        config_type, decoding_type: dataclasses of what can be set for training and for play.
        overrides: environment name -> fields of `Config` that differ there.
        grid: decodings tried on validation seeds after training; empty where there is nothing to choose.
        variants: named settings beside the default; `qsft@paper` is the agent `qsft` in its variant `paper`.
        sweep: decodings that an ablation compares on validation seeds.
        watched: decodings under which it plays while it trains (learning curves), chosen beforehand, by what their row's name
            adds to the agent's; the default decoding if empty.
        reuses: the agent whose checkpoint this one plays with another decoding (then it trains nothing), or empty.
        imitates: whether it learns the behaviour itself, so that the behaviour's exact likelihood is its target.
        networks: by name; those in `played()` are saved.
    """

    config_type: ClassVar[type[Config]] = Config
    decoding_type: ClassVar[type[Decoding]] = Decoding
    overrides: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    grid: ClassVar[Sequence[Decoding]] = ()
    variants: ClassVar[Mapping[str, Variant]] = {}
    sweep: ClassVar[Sequence[Decoding]] = ()
    watched: ClassVar[Mapping[str, Decoding]] = {}
    default_decoding: ClassVar[Decoding | None] = None
    reuses: ClassVar[str] = ""
    imitates: ClassVar[bool] = False

    def __init__(self, config: Config | None = None, decoding: Decoding | None = None) -> None:
        self.config: Any = config if config is not None else self.config_type()
        self.decoding: Any = decoding or self.default_decoding or self.decoding_type()
        self.networks = Networks()
        self.borrowed: dict[str, dict[str, str]] = {}
        self.codec: Codec
        self.meta: dict[str, Any] = {}
        self._decoder: Decoder | None = None
        self._players: Sequence[TokenAgent] = ()

    @classmethod
    def config_for(cls, env: str, variant: str = "") -> Any:
        """The configuration of a variant, or the default, for an environment.

        Raises:
            BenchError: there is no such variant; the nearest names are given.
        """
        return cls.config_type(**{**cls.overrides.get(env, {}), **cls._variant(variant).config})

    @classmethod
    def grid_for(cls, variant: str = "") -> Sequence[Decoding]:
        """The decodings to choose from: the variant's own, else the agent's."""
        grid = cls._variant(variant).grid
        return cls.grid if grid is None else grid

    @classmethod
    def _variant(cls, name: str) -> Variant:
        if name and name not in cls.variants:
            raise BenchError(f"{cls.__name__} has no variant {name!r}{did_you_mean(name, cls.variants)}")
        return cls.variants[name] if name else Variant()

    # What a learner writes ------------------------------------------------------------------------------------------

    @abstractmethod
    def build(self, data: TokenDataset, run: Run) -> None:
        """Fill `self.networks`, from random weights or from `run.prerequisite(...)`."""

    @abstractmethod
    def loss(self, batch: TokenBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A scalar to minimise and metrics to log."""

    @abstractmethod
    def policy_logits(self, outputs: Outputs) -> torch.Tensor:
        """Next-token logits (B, V), before the temperature."""

    def action_values(self, outputs: Outputs) -> torch.Tensor | None:
        """Q (B, V) on the scale on which the data's returns span [0, 1], or None where the agent learns no values."""
        return None

    def select(self, data: TokenDataset) -> TokenDataset:
        """The episodes to learn from; all of them unless a learner filters."""
        return data

    def trained(self) -> list[str]:
        """Names of the networks that the optimiser moves."""
        return [name for name in self.networks if not name.endswith("target")]

    def played(self) -> list[str]:
        """Names of the networks that play."""
        return self.trained()

    def before_step(self, step: int, steps: int) -> None:
        """Called before each gradient step, e.g. to move a schedule."""

    def after_step(self, step: int, steps: int) -> None:
        """Called after each gradient step, e.g. to move target networks."""

    def diagnose(self, data: TokenDataset) -> dict[str, float]:
        """Numbers to watch while training, from held-out data."""
        return {}

    def prefix(self) -> int | None:
        """Id that replaces the first of every prompt, or None."""
        return None

    # What it gets for that -------------------------------------------------------------------------------------------

    def network(self, data: TokenDataset, run: Run, heads: Mapping[str, Head], slots: Slots | None = None) -> Network:
        """A network of the preset's size from random weights, the same for the same `run.seed`; or the pretrained one.

        Args:
            slots: what it is shown beside ids; the codec's if not given.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            context = data.meta["recipe"]["context"]
            sizes, slots = run.scale, slots or data.codec.slots
            return Network(NetworkConfig(sizes.model, data.codec.size, context, heads, slots, sizes.tuning))

    def fit(self, data: TokenDataset, run: Run) -> None:
        data = self.select(data)
        self.codec = data.codec
        self.meta = {
            **{key: data.meta[key] for key in ("env", "tier", "return_bounds", "mean_return")},
            **{key: data.meta["recipe"][key] for key in ("dataset", "context", "state", "discount")},
            **({"constrained": True} if run.scale.constrained else {}),
            "identity": identity(type(self), self.config, run.scale, data.meta["dataset_recipe"], run.seed),
        }
        if self.reuses:
            for name in self._prerequisite(run, self.reuses).networks:
                self.borrow(name, run, self.reuses, name)
            return
        torch.manual_seed(run.seed)
        self.build(data, run)
        borrowed = {name: reference["sha256"] for name, reference in self.borrowed.items()}
        training, pretrained = self.config.training, run.scale.model not in SIZES
        with rounded_products(pretrained and mixed_precision(training.precision, run.device) == "bf16"):
            history: History = train(self, data, run, training, {**self.meta["identity"], "borrowed": borrowed})
        self.networks.eval().to("cpu")
        self._decoder = None
        self.meta["training"] = {
            "steps": training.gradient_steps(run.scale),
            "episodes": len(data.training.episodes),
            "seconds": round(history.seconds, 1),
            "history": history.entries,
        }
        if pretrained:
            self.meta["training"]["model"] = f"{note(run.scale.model)}, tuned {run.scale.tuning}"

    def borrow(self, name: str, run: Run, agent: str, network: str) -> Network:
        """A frozen network of a prerequisite, put under `name`: named in this checkpoint by hash, never copied into it."""
        source = self._prerequisite(run, agent)
        self.networks[name] = source.networks[network]
        self.borrowed[name] = {"agent": agent, "network": network, "sha256": source.meta["files"][network]}
        return source.networks[network]

    def start_from(self, run: Run, agent: str, network: str, heads: Mapping[str, Head] | None = None) -> Network:
        """A copy of a prerequisite's network to go on training.

        Args:
            heads: of the copy; those that the prerequisite has too keep its weights, others are random. None for the same.
        """
        source = self._prerequisite(run, agent)
        origin = source.networks[network]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            copy = Network(origin.config if heads is None else replace(origin.config, heads=heads))
        copy.load_state_dict(origin.state_dict(), strict=False)
        self.meta.setdefault("started_from", {})[network] = {"agent": agent, "sha256": source.meta["files"][network]}
        return copy

    def _prerequisite(self, run: Run, agent: str) -> TokenAgent:
        source = run.prerequisite(agent)
        if not isinstance(source, TokenAgent):
            raise BenchError(f"{agent} has no networks to start from")
        if source.codec.sha256 != self.codec.sha256:
            raise BenchError(f"{agent} was trained with another vocabulary; train it again on this dataset")
        return source

    def mean_loss(
        self, batch: TokenBatch, network: str, function: Callable[..., torch.Tensor], *columns: torch.Tensor
    ) -> torch.Tensor:
        """`batch.mean` of `function(outputs, *columns)`, some of the K action tokens at a time.

        Args:
            function: of `network`'s outputs, head by head (k, V), and the columns (k, ...) to losses (k,), row by row.
            columns: (K, ...) each, which get no gradient.
        """
        reader, weight = self.networks[network], batch.learn / batch.learn.sum()
        rows = (reader.at(batch), *columns)

        def at(parts: Mapping[str, torch.Tensor], *rest: torch.Tensor) -> torch.Tensor:
            return function(reader.whole(parts), *rest)

        return weighted_sum(reader.parts, at, weight, reader.heads.parameters(), *rows, width=self.codec.outputs)

    def act(self, episodes: Sequence[Episode]) -> list[Action]:
        return [self.codec.decode(ids) for ids in self.act_ids(episodes)]

    def act_ids(self, episodes: Sequence[Episode]) -> list[list[int]]:
        """`act` before decoding: the ids of one action for each episode."""
        players = self._players or [self]
        policies = [Policy(player._play_logits, player.decoding.greedy) for player in players]
        return self._decoding_machine().decode_by(policies, episodes)

    def weigh(
        self, episodes: Sequence[Episode], begun: Sequence[Sequence[int]] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What the agent thinks of the next token of each episode.

        Args:
            begun: by episode, the ids of its next action that were chosen already; none if not given.

        Returns:
            The probabilities of its policy (N, V), of which a greedy agent takes the greatest, and its values (N, V) or None
            where it has none.
        """
        machine = self._decoding_machine()
        outputs = machine.peek(episodes, begun)
        logits = self._play_logits(outputs).double()
        logits = logits.masked_fill(~torch.from_numpy(machine.allowed(episodes, begun)).to(logits.device), -torch.inf)
        return logits.softmax(-1), self.action_values(outputs)

    def normalise(self, value: Any) -> Any:
        """A return in the environment's unit on the scale on which the data's returns span [0, 1]."""
        return normalise(value, self.meta["return_bounds"])

    def state_values(self, episodes: Sequence[Episode]) -> NDArray[np.float64] | None:
        """Value, normalised, of each episode's next token under the agent's own policy, shape (N,); None without values."""
        probabilities, values = self.weigh(episodes)
        if values is None:
            return None
        if self.decoding.greedy:
            probabilities = F.one_hot(probabilities.argmax(-1), probabilities.shape[-1]).double()
        return (probabilities * values.double()).sum(-1).cpu().numpy()

    def start_value(self, episodes: Sequence[Episode]) -> float | None:
        """Mean of `state_values` at the start of the episodes; None without values."""
        values = self.state_values([episode.awaiting(0) for episode in episodes])
        return None if values is None else float(values.mean())

    @torch.no_grad()
    def start_gap(self, data: TokenDataset, value: Callable[[TokenBatch], torch.Tensor]) -> dict[str, float]:
        """Mean value at the start of held-out episodes, and what was returned there (normalised), to be watched in `diagnose`.

        Args:
            value: of the state of every action token of a batch, (K,).
        """
        batch = data.validation.batch(held_out_windows(data, 512)).to(self.networks[next(iter(self.networks))].device)
        return {
            "start_value": float(value(batch)[batch.first].mean()),
            "start_return": float(batch.return_to_go[batch.first].mean()),
        }

    def _decoding_machine(self) -> Decoder:
        if self._decoder is None:
            if not self.networks:
                raise BenchError(f"{type(self).__name__} is not trained yet; call fit or load")
            played = {name: self.networks[name] for name in self.played()}
            made = (self.codec, self.meta["context"], self.meta["state"], self.prefix())
            self._decoder = Decoder(played, *made, constrained=self.meta.get("constrained", False))
        return self._decoder

    def _play_logits(self, outputs: Outputs) -> torch.Tensor:
        return self.policy_logits(outputs) / self.decoding.temperature

    def forget(self, episodes: Sequence[Episode]) -> None:
        if self._decoder is not None:
            self._decoder.forget(episodes)

    def with_decoding(self, decoding: Decoding) -> Self:
        """The same weights under another decoding."""
        other = type(self)(self.config, decoding)
        other.networks, other.borrowed, other.codec, other.meta = self.networks, self.borrowed, self.codec, self.meta
        return other

    def with_decodings(self, decodings: Sequence[Decoding]) -> Self:
        """The same weights under several decodings at once: an episode is played under `decodings[episode.player]`.

        What the networks read is read once for all of them, where a pass costs much and a row little.
        """
        other = self.with_decoding(self.decoding)
        other._players = [self.with_decoding(decoding) for decoding in decodings]
        return other

    def save(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and one safetensors file a network, floating-point weights as `dtype`; borrowed networks by name.

        Raises:
            BenchError: the folder cannot be written.
        """
        files = {}
        for name, network in self.networks.items():
            if name in self.borrowed:
                files[name] = self.borrowed[name]["sha256"]
                continue
            path = directory / f"{name}.safetensors"
            write_tensors(path, {key: _as(value, dtype) for key, value in network.state_dict().items()})
            files[name] = file_sha256(path)
        self.meta["files"] = files
        write_json(
            directory / "config.json",
            {
                "format": FORMAT,
                "agent": type(self).__module__.rpartition(".")[2],
                "config": asdict(self.config),
                "decoding": asdict(self.decoding),
                "networks": {name: self.networks[name].config.to_json() for name in self.networks},
                "borrowed": self.borrowed,
                "played": self.played(),
                "codec": self.codec.config(),
                "meta": self.meta,
            },
        )

    def publish(self, directory: Path) -> None:
        """Save what play needs alone, in half precision."""
        published = self.with_decoding(self.decoding)
        published.networks = Networks({name: self.networks[name] for name in self.played()})
        published.borrowed = {name: reference for name, reference in self.borrowed.items() if name in published.networks}
        published.meta = dict(self.meta)
        with atomic_directory(directory) as temporary:
            published.save(temporary, torch.float16)

    @classmethod
    def load(cls, directory: Path, device: str = "cpu") -> Self:
        """Read a checkpoint; borrowed networks come from the sibling folder of the agent they belong to.

        Raises:
            BenchError: not a checkpoint of this agent, a damaged file, or a borrowed network that is missing or another.
        """
        value = read_json(directory / "config.json")
        name = cls.__module__.rpartition(".")[2]
        if value.get("format") != FORMAT or value.get("agent") != name:
            raise BenchError(f"{directory} holds a checkpoint of {value.get('agent')!r}, not of {name!r}")
        agent = cls(
            _from_dict(cls.config_type, value["config"], directory), _from_dict(cls.decoding_type, value["decoding"], directory)
        )
        agent.codec = codec_from_config(value["codec"])
        agent.meta = value["meta"]
        agent.borrowed = value["borrowed"]
        for key, config in value["networks"].items():
            path = directory / f"{key}.safetensors"
            if key in agent.borrowed:
                reference = agent.borrowed[key]
                path = directory.parent / reference["agent"] / f"{reference['network']}.safetensors"
            expected = agent.meta["files"][key]
            if not path.exists():
                raise BenchError(f"{path} is missing; {directory} needs it (SHA-256 {expected})")
            found = file_sha256(path)
            if found != expected:
                raise BenchError(f"{path} has SHA-256 {found}, {directory} expects {expected}; train this agent again")
            network = Network(NetworkConfig.from_json(config))
            try:
                network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
            except RuntimeError as error:  # names that are missing, or shapes that differ
                raise BenchError(
                    f"{path} does not fit the architecture of {network.config.model}; train this agent again"
                ) from error
            agent.networks[key] = network.requires_grad_(False)
        agent.networks.eval().to(device)
        return agent


def identity(cls: type[TokenAgent], config: Any, scale: Scale, dataset_recipe: str, seed: int) -> dict[str, Any]:
    """What a training follows from, beside the code: equal identity, equal checkpoint."""
    sizes = ["codec", "context", "model", "steps", "batch_size", "learning_rate"]
    if scale.model not in SIZES:
        sizes += ["tuning"]
    return {
        "agent": cls.__module__.rpartition(".")[2],
        "config": asdict(config),
        "scale": {name: getattr(scale, name) for name in sizes},
        "dataset_recipe": dataset_recipe,
        "seed": seed,
    }


def completed(cls: type[TokenAgent], found: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """An `identity` that was written before some hyperparameters were there: these have their defaults."""
    return {**found, "config": asdict(_from_dict(cls.config_type, found["config"], directory))}


def checkpoint_hash(directory: Path) -> str:
    """Identity of a checkpoint: the weights that play by hash, its configuration and decoding."""
    value = read_json(directory / "config.json")
    parts = {key: value[key] for key in ("agent", "config", "decoding", "codec")}
    weights = {name: value["meta"]["files"][name] for name in value["played"]}
    return json_sha256([parts, weights, value["meta"]["identity"], value["meta"]["dataset"]])


def utterance_log_likelihood(batch: TokenBatch, token_log_likelihood: torch.Tensor) -> torch.Tensor:
    """Sum token log-likelihoods (K,) over each utterance; (utterances,) in the order of `batch.last`."""
    total = token_log_likelihood.double().cumsum(0)[batch.last]
    return torch.diff(total, prepend=torch.zeros(1, dtype=total.dtype, device=total.device))


def held_out_windows(data: TokenDataset, most: int) -> NDArray[np.int64]:
    """Indices of the held-out windows that `diagnose` looks at: `most`, and few of a pretrained model's, which is slow."""
    return np.arange(min(most if data.codec.outputs < 10_000 else 32, len(data.validation.windows)))


@torch.no_grad()
def imitation_gap(
    log_probability: Callable[[TokenBatch], torch.Tensor], data: TokenDataset, episodes: int = 2000
) -> dict[str, float]:
    """How much of what can be imitated is imitated, on held-out episodes, in nats an utterance.

    Returns:
        `validation_loss`, and where the behaviour's likelihood is known `exact_loss` (the behaviour's own),
        `marginal_loss` (the best that ignores the episode: action frequencies) and `gap_closed` = (marginal -
        validation) / (marginal - exact).
    """
    view = data.validation
    indices = held_out_windows(data, episodes)
    model, exact = [], []
    for start in range(0, len(indices), 256):
        batch = view.batch(indices[start : start + 256])
        learned = batch.learn[batch.last]  # a window's last row may stand in the next one too
        model.append(utterance_log_likelihood(batch, log_probability(batch))[learned])
        exact.append(batch.log_likelihood[batch.last].double()[learned])
    values = {"validation_loss": -float(torch.cat(model).mean())}
    known = torch.cat(exact)
    if not bool(known.isnan().any()):
        values["exact_loss"] = -float(known.mean())
        values["marginal_loss"] = marginal_loss(data, view.batch(indices))
        values["gap_closed"] = (values["marginal_loss"] - values["validation_loss"]) / (
            values["marginal_loss"] - values["exact_loss"]
        )
    return values


def marginal_loss(data: TokenDataset, batch: TokenBatch, episodes: int = 20_000) -> float:
    """Loss in nats an utterance of the best predictor that sees nothing of the episode (whole utterances' frequencies)."""
    sample = data.training.batch(np.arange(min(episodes, len(data.training.windows))))
    counts: dict[tuple[int, ...], int] = {}
    for utterance in utterances(sample):
        counts[utterance] = counts.get(utterance, 0) + 1
    total = sum(counts.values()) + len(counts) + 1
    held_out = utterances(batch)
    return -float(np.mean([np.log((counts.get(utterance, 0) + 1) / total) for utterance in held_out]))


def utterances(batch: TokenBatch) -> list[tuple[int, ...]]:
    """The action tokens of a batch, cut into utterances."""
    found, current = [], []
    for token, last in zip(batch.action.tolist(), batch.last.tolist(), strict=True):
        current.append(token)
        if last:
            found.append(tuple(current))
            current = []
    return found


def log_softmax_at(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """log softmax(logits) (K, V) at `action` (K,), without holding the whole log-softmax."""
    return -F.cross_entropy(logits, action, reduction="none")


def _as(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if value.is_floating_point() else value


def _from_dict(kind: type, values: Mapping[str, Any], directory: Path) -> Any:
    values = dict(values)
    if isinstance(values.get("training"), dict):
        values["training"] = Training(**values["training"])
    try:
        return kind(**values)
    except TypeError as error:
        raise BenchError(f"{directory}/config.json does not fit this version of the agent ({error}); train it again") from error
