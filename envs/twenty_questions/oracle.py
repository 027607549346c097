"""The oracle that asks a language model: `oracle="llm"`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qsft_bench.llm import LanguageModel

INSTRUCTION = (
    "You are the oracle of a game of twenty questions. You are told the hidden object and asked one question about it. "
    "Answer factually, about a typical one. Answer with one word: Yes or No."
)


@lru_cache(maxsize=1)
def shared_oracle() -> ModelOracle:
    """One oracle for all games of this process, with the model that environment variables name: they share its budget.

    Raises:
        BenchError: they name none, or it cannot be loaded.
    """
    from qsft_bench.llm import language_model

    return ModelOracle(language_model())


class ModelOracle:
    """Asks a language model, which keeps its answers, retries and keeps to a budget by itself.

    Args:
        model: who answers.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model

    def answer(self, thing: str, question: str) -> bool:
        """The model's answer about `thing` (`a soccer ball`); anything but a clear yes is no.

        The same question in other spacing or case is the same request, so that it is asked, and paid, once.

        Raises:
            BenchError: the model cannot be reached, or its budget is spent.
        """
        asked = " ".join(question.split()).lower().rstrip("?.! ")
        messages = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": f"The hidden object is {thing}.\nQuestion: {asked}?\nAnswer:"},
        ]
        return re.match(r"\W*yes\b", self._model.complete(messages, max_tokens=8), re.IGNORECASE) is not None
