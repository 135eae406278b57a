"""The parts of the `nimbusguard` command, one module each: `configure(parser)` and `run(args)`."""
