"""KServe model server: state (B, 11) to Q-values (B, 5)."""
