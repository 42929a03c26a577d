"""What the page shows of single films: a map of them, a few of them, and where a probe looks."""
