"""Choosing an action from Q-values or from a rule: pure, numpy only."""
