"""How long it takes to list thousands of DICOM files: headers alone, grouped and classified.

Makes the files (SERIES series, headers as long as a scanner's, 128 x 128 pixels), lists them several times and prints a table and JSON.

    python benchmarks/dicom_list.py [--files 5000] [--series 20] [--rounds 3] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.verdict import judge

SIZE = 128
PRIVATE_BYTES = 60_000
"""What MR headers hold of the vendor's own."""


def header(series: int) -> Dataset:
    """A slice without its place, with a hundred attributes."""
    ds = Dataset()
    ds.SOPClassUID, ds.Modality, ds.ImageType = "1.2.840.10008.5.1.4.1.1.4", "MR", ["ORIGINAL", "PRIMARY", "M", "NORM"]
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"1.2.3.{series // 4}", f"1.2.4.{series}", "1.2.5"
    ds.SeriesNumber, ds.PatientName, ds.PatientID, ds.EchoTime = series, "Synthetic^Patient", "S1", "90"
    ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [1, 0, 0, 0, 0.97814760, -0.20791169], ["0.5", "0.5"], "3"
    ds.Rows = ds.Columns = SIZE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    block = ds.private_block(0x0029, "SYNTHETIC VENDOR", create=True)
    block.add_new(0x10, "OB", bytes(PRIVATE_BYTES))
    for element in range(0x20, 0x60):
        block.add_new(element, "LO", f"value of {element}")
    ds.PixelData = np.zeros((SIZE, SIZE), dtype="<u2").tobytes()
    return ds


def make(folder: Path, files: int, series: int) -> None:
    """`files` slices of `series` series, all in one folder, in no order."""
    each = files // series
    order = np.random.default_rng(0).permutation(each * series)
    for number in range(series):
        ds = header(number)
        for k in range(each):
            ds.ImagePositionPatient = [-90.5, f"{-60 + 3 * k * 0.20791169:.8f}", f"{3 * k * 0.97814760:.8f}"]
            ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.6.{number}.{k}", each - k
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            out = io.BytesIO()
            pydicom.dcmwrite(out, FileDataset(out, ds, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)
            (folder / f"{order[number * each + k]:06d}").write_bytes(out.getvalue())


def main() -> None:
    """Make, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--series", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made and kept; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="segpipe_dicom_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not any(folder.iterdir()):
            make(folder, options.files, options.series)
        paths = list(folder.iterdir())
        seconds = []
        for _ in range(options.rounds):
            start, used = time.perf_counter(), time.process_time()
            listing = list_stacks(paths)
            verdicts = [judge(stack, Policy()).action for stack in listing.stacks]
            seconds.append((time.perf_counter() - start, time.process_time() - used))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    assert verdicts == ["accept"] * options.series
    wall, processor = (sorted(values)[len(values) // 2] for values in zip(*seconds, strict=True))
    result = {"files": len(paths), "series": options.series, "seconds": wall, "processor_seconds": processor, "cores": os.cpu_count()}
    print(f"{'files':>8} {'series':>8} {'seconds':>9} {'processor':>10} {'ms a file':>10}")
    print(f"{len(paths):>8} {options.series:>8} {wall:>9.2f} {processor:>10.2f} {1000 * wall / len(paths):>10.2f}")
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
