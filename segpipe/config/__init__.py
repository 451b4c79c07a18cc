"""YAML and command-line words in, plain `Settings` out. The only package that knows Hydra and OmegaConf."""
