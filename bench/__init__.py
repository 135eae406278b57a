"""Benchmarks that run ours, the SDK used as its samples show, and the bare web server side by side.

Everything here talks to loopback only, counts and times are bounded, and every process that is
started is ended by its id. Nothing in this package is imported by the product.
"""
