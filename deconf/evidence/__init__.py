"""Evidence: leakage, tasks, comparisons, reports."""
