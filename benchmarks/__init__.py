"""The figures of DESIGN.md, each beside its peer in the same run."""
