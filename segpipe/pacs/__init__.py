"""Scans from a picture archive (PACS) and results back to it: DICOMweb, and DICOM's own network."""
