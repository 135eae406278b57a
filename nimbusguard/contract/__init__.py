"""The contract between operator, transformer, predictor and training: pure, numpy only."""
