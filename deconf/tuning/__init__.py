"""Encoders trained further: low-rank corrections or all weights, judged by fresh attackers."""
