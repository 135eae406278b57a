"""Learning a policy and judging it: simulator, DQN, baselines, evaluation, gate."""
