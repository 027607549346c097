"""Hidden states of a GPT-2 at some tokens only: the last block is computed for these alone, and padding never.

Other tokens are looked at through the last block's keys and values; its queries, its projections and its perceptron concern the
tokens that are read. With one layer and one action in a row of twelve tokens that is a fifth of the work.

```
tokens     (N, D), without padding -> keys, values (N, 2D) -> (B, T, 2D)  \\
reading    (P, D) -> queries (P, D) -> by row (B, Q, D)                    > attention (B, Q, D) -> (P, D) -> perceptron (P, D)
```
"""

from __future__ import annotations

from typing import Any

import torch


def hidden_at(backbone: Any, embedded: torch.Tensor, position: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What `backbone(inputs_embeds=embedded).last_hidden_state` holds at `position`, (P, D).

    Args:
        backbone: a `transformers.GPT2Model` without dropout.
        embedded: (B, T, D) embedded rows, without their places; padding stands at the right.
        position: (P,) indices into the flattened (B * T) tokens, in any order; of tokens, not of padding.
        mask: (B, T) which tokens are real.
    """
    batch, length, width = embedded.shape
    hidden = _before_last(backbone, embedded + backbone.wpe.weight[:length]).flatten(0, 1)
    last = backbone.h[-1]
    attention, heads = last.attn, last.attn.num_heads
    weight, bias = attention.c_attn.weight, attention.c_attn.bias

    real = mask.flatten().nonzero().squeeze(-1)  # (N,)
    seen = last.ln_1(hidden[real]) @ weight[:, width:] + bias[width:]
    seen = seen.new_zeros(batch * length, 2 * width).index_copy_(0, real, seen)
    key, value = seen.view(batch, length, 2, heads, -1).permute(2, 0, 3, 1, 4)

    # Those that are read stand in a grid (B, Q); what is left over in it is thrown away.
    row = position // length
    order = row.argsort(stable=True)
    found, most = cells(row[order], batch)
    cell = torch.empty_like(row).index_copy_(0, order, found)
    place = torch.zeros(batch * most, dtype=torch.long, device=embedded.device).index_copy_(0, cell, position % length)
    read = hidden[position]
    query = (last.ln_1(read) @ weight[:, :width] + bias[:width]) * attention.scaling
    query = query.new_zeros(batch * most, width).index_copy_(0, cell, query)
    scores = query.view(batch, most, heads, -1).transpose(1, 2) @ key.transpose(-1, -2)  # (B, heads, Q, T)
    later = torch.arange(length, device=embedded.device) > place.view(batch, 1, most, 1)
    mixed = scores.masked_fill(later, -torch.inf).softmax(-1, dtype=torch.float32).to(value.dtype) @ value
    read = read + attention.c_proj(mixed.transpose(1, 2).reshape(batch * most, width)[cell])
    return backbone.ln_f(read + last.mlp(last.ln_2(read)))


def cells(row: torch.Tensor, rows: int) -> tuple[torch.Tensor, int]:
    """Where things stand in a flattened grid (rows, most) each row of which holds its own from the left on: (P,), and `most`.

    Args:
        row: (P,) the row of each, ascending.
        rows: how many rows the grid has.
    """
    counts = row.bincount(minlength=rows)
    most = int(counts.max())
    before = counts.cumsum(0) - counts
    return row * most + torch.arange(len(row), device=row.device) - before[row], most


def _before_last(backbone: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What enters the last block, (B, T, D)."""
    if len(backbone.h) > 1:
        from transformers.masking_utils import create_causal_mask

        places = torch.arange(hidden.shape[1], device=hidden.device)[None]
        mask = create_causal_mask(backbone.config, hidden, None, None, position_ids=places)
        for block in backbone.h[:-1]:
            hidden = block(hidden, None, mask)
    return hidden
