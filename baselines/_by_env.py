"""What several agents set alike in some environments: how long they train, and the decodings that they choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qsft_bench.token_agent import Decoding
from qsft_bench.train import Training

CHESS = ("chess", "chess_endgame")
ARM = ("pick_place", "drawer_grasp")
LONG = ("wordle", "twenty_questions", "webshop", "alfworld", *CHESS, *ARM)
"""Environments in which SFT trains for long: who starts from it, or imitates a part of the data, takes half as many steps."""

HALF_AS_LONG: Mapping[str, Mapping[str, Any]] = {env: {"training": Training(steps=0.5)} for env in LONG}
"""`overrides` of who imitates a part of the data."""

AS_LONG_AS_BOTH: Mapping[str, Mapping[str, Any]] = {env: {"training": Training(steps=1.5)} for env in ARM}
"""`overrides` of who starts from random weights: as many steps as SFT and an agent that starts from it take together."""

GREEDY = Decoding(greedy=True)
VALUE_GRID = (GREEDY, *(Decoding(temperature=value) for value in (0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.003)))
"""Eight decodings for an agent whose policy is softmax(Q / temperature), Q on the scale of [0, 1]: as many as others have."""
