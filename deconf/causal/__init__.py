"""The causal graph, the independence it demands, and whether the table can support it."""
