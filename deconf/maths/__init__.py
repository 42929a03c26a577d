"""Arrays to arrays: moments, maps, designs, intervals, permutations."""
