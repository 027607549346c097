"""Chat templates cut at what is said, so that a conversation grows as tokens do and is never rendered again.

```
<|im_start|>system ... <|im_end|> <|im_start|>user        Questions: <|im_end|> <|im_start|>assistant   Is it alive?  <|im_end|>
└──────────────── opening ──────────────────┘            └───────────── reply ─────────────┘            └── end ──┘
<|im_start|>user        Yes. <|im_end|> <|im_start|>assistant ...
└──── again ────┘
```
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from qsft_bench.errors import BenchError

SAID = [f"qsft{who}{turn}" for turn in range(3) for who in ("user", "answer")]  # what a template is rendered around


@dataclass(frozen=True)
class ChatFormat:
    """What a template puts around what the user says and what is answered.

    Attributes:
        opening: before what the user says first; a system prompt, where the template brings its own, stands in it.
        reply: from there to the answer.
        end: the one special token that ends an answer.
        again: from there to what the user says next.
    """

    opening: str
    reply: str
    end: str
    again: str

    @classmethod
    def of(cls, tokenizer: Any, special: Iterable[str], model: str) -> Self:
        """The format of a tokenizer of transformers.

        Args:
            special: its special tokens.

        Raises:
            BenchError: it has no template, or one that cannot be cut so.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise BenchError(f"{model} has no chat template; leave --scale.codec chat out, and its text stands as it is")

        def rendered(messages: int) -> str:
            roles = ("user", "assistant")
            said = [{"role": roles[index % 2], "content": SAID[index]} for index in range(messages)]
            try:
                return tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # a template is a program, and raises what it likes
                raise BenchError(f"the chat template of {model} cannot be rendered: {error}") from error

        def around(text: str, messages: int) -> list[str]:
            parts = []
            for said in SAID[:messages]:
                part, found, text = text.partition(said)
                if not found:
                    raise BenchError(f"the chat template of {model} leaves out what was said; {_REFUSED}")
                parts.append(part)
            return [*parts, text]

        opening, reply, closing, *rest = around(rendered(5), 5)
        again_reply, again_closing, last_reply = rest
        if (reply, closing, reply) != (again_reply, again_closing, last_reply) or around(rendered(1), 1) != [opening, reply]:
            raise BenchError(f"the chat template of {model} writes a turn otherwise once others follow it; {_REFUSED}")
        end = max((token for token in special if closing.startswith(token)), key=len, default="")
        if not end:
            raise BenchError(f"the chat template of {model} ends an answer with {closing!r}, no token of its own; {_REFUSED}")
        return cls(opening, reply, end, closing.removeprefix(end))


_REFUSED = "such templates are not built in here; leave --scale.codec chat out"
