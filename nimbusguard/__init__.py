"""NimbusGuard: a Deep Q-Network that decides how many replicas a Kubernetes workload needs."""
