"""A label map on a series' slices -> objects for a PACS: DICOM-SEG, RTSTRUCT, a report of volumes, an overview picture.

`results.write_results` is the way in. Arrays, planes and label tables come in, the bytes of whole files go out.
"""
