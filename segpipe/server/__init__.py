"""Segmentation over HTTP: a service that keeps models warm, and its page for people."""
