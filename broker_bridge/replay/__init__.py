"""Dead letters, replays and audits: what an operator does after the fact."""
