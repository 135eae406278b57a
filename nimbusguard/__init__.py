"""NimbusGuard: a Deep Q-Network that decides how many replicas a Kubernetes workload needs."""

from importlib.metadata import version

__version__ = version("nimbusguard")
