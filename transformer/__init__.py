"""KServe model server: raw metrics to state, Q-values to decisions. Runs without torch."""
