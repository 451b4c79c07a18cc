"""The networks: U-Net and V-Net from small blocks, for any number of channels and classes and any input size."""
