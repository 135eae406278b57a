"""The operator: metrics in, a decision, replicas out, and a record of what came of it."""
