"""Synthetic scans with their label maps, the same bit for bit on every machine: CT, T2 MR of the prostate, pictures of cells."""

from segpipe.dataset.phantom.cells import phantom_cells
from segpipe.dataset.phantom.ct import phantom_ct
from segpipe.dataset.phantom.dicom import write_dicom_series
from segpipe.dataset.phantom.prostate import phantom_prostate
from segpipe.dataset.phantom.write import PHANTOMS, phantom, write_phantom, write_samples

__all__ = ["PHANTOMS", "phantom", "phantom_cells", "phantom_ct", "phantom_prostate", "write_dicom_series", "write_phantom", "write_samples"]
