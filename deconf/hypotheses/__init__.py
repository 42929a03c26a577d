"""Questions about imaging signals: effects of a cause on a score, a finding, an embedding."""
