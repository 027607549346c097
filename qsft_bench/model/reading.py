"""Hidden states of a GPT-2 at some tokens only: the last block is computed for these alone.

All tokens are looked at through the last block's keys and values; its queries, its second projection and its perceptron
concern the tokens that are read. With one layer and one action in a row of twelve tokens that is a fifth of the work.

```
rows       (B, T, D) -> blocks but the last -> keys, values (B, T, 2D)
reading    (P,)      -> (B, Q) by row, Q the most in a row -> queries (B, Q, D) -> attention, perceptron -> (P, D)
```
"""

from __future__ import annotations

from typing import Any

import torch


def hidden_at(backbone: Any, embedded: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """What `backbone(inputs_embeds=embedded).last_hidden_state` holds at `position`, (P, D).

    Args:
        backbone: a `transformers.GPT2Model` without dropout.
        embedded: (B, T, D) embedded rows, without their places; padding stands at the right.
        position: (P,) indices into the flattened (B * T) tokens, in any order.
    """
    from transformers.masking_utils import create_causal_mask

    batch, length, width = embedded.shape
    hidden = embedded + backbone.wpe.weight[:length]
    *blocks, last = backbone.h
    if blocks:
        places = torch.arange(length, device=embedded.device)[None]
        mask = create_causal_mask(backbone.config, hidden, None, None, position_ids=places)
        for block in blocks:
            hidden = block(hidden, None, mask)

    # Slots of a (B, Q) grid: those of one row lie next to each other.
    row = position // length
    order = row.argsort(stable=True)
    counts = row.bincount(minlength=batch)
    slot = torch.empty_like(row)
    slot[order] = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row[order]]
    most = int(counts.max())
    cell = row * most + slot  # (P,) into the flattened grid
    place = torch.zeros(batch * most, dtype=torch.long, device=row.device).index_copy(0, cell, position % length)
    source = torch.arange(batch, device=row.device).repeat_interleave(most) * length + place  # (B * Q,), unused cells: 0

    read = hidden.flatten(0, 1)[source]
    attention, heads = last.attn, last.attn.num_heads
    weight, bias = attention.c_attn.weight, attention.c_attn.bias
    seen = last.ln_1(hidden)
    key, value = (seen @ weight[:, width:] + bias[width:]).view(batch, length, 2, heads, -1).permute(2, 0, 3, 1, 4)
    query = (seen.flatten(0, 1)[source] @ weight[:, :width] + bias[:width]).view(batch, most, heads, -1).transpose(1, 2)
    later = torch.arange(length, device=row.device) > place.view(batch, 1, most, 1)
    scores = (query * attention.scaling) @ key.transpose(-1, -2)  # (B, heads, Q, T)
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    read = read + attention.c_proj(mixed.transpose(1, 2).reshape(batch * most, width))
    read = read + last.mlp(last.ln_2(read))
    return backbone.ln_f(read[cell])
