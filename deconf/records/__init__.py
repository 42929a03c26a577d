"""Frozen records that outlive the process that made them."""
