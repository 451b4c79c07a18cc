"""segpipe: from a folder of scans to a segmentation model that runs in a hospital."""

__version__ = "0.1.0"
