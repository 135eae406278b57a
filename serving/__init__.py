"""What both model servers stand on: HTTP and gRPC fronts, batching, metrics, logs, life cycle."""
