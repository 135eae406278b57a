"""Roll-outs of a model version in steps that are measured and can be undone."""
