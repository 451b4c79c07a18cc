"""How data sets lie on disk, one module a layout; each has `found(root)` and `load(root, settings)`."""
