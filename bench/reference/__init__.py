"""The same service written as KServe's own samples write one: what ours is measured against."""
