"""Series of DICOM slices -> volumes: found, ordered by where they lie, classified, and read or refused. Headers through pydicom."""
