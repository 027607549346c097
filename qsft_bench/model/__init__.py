"""Backbones and heads (`network`), and the batched decoder with a persistent KV cache (`decoder`)."""
