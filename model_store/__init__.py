"""Versions of the network on disk or object storage: publish, verify, resolve, promote."""
