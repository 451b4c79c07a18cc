"""Whose a series is: patient and study of its header, in Unicode, taken over by every object that is made of it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

from segpipe.dicom.library import pydicom

log = logging.getLogger(__name__)

UNICODE = "ISO_IR 192"
_CHARACTER_SET = "SpecificCharacterSet"
PATIENT_AND_STUDY = (
    # Patient, PS3.3 C.7.1.1
    *("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "PatientBirthDate"),
    *("PatientSex", "PatientBirthTime", "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments"),
    *("PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence"),
    *("BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "QualityControlSubject"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    # Clinical Trial Subject and Study, C.7.1.3 and C.7.2.3
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"),
    *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
    # General Study and Patient Study, C.7.2.1 and C.7.2.2
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence"),
    *("ReferencedStudySequence", "AdmissionID", "AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight"),
)
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID"),
    "AccessionNumber",
)
"""Of type 2: present, if need be without a value."""


def patient_of(header: Any) -> Any:
    """Patient and study of a header that was read. What cannot be read of them (letters for a number) is left out."""
    found = only(header, PATIENT_AND_STUDY)
    if _CHARACTER_SET in header:
        found[_CHARACTER_SET] = header[_CHARACTER_SET]
    found.decode()
    if _CHARACTER_SET in found:
        del found[_CHARACTER_SET]
    return found


def only(header: Any, names: Sequence[str]) -> Any:
    """Some attributes of a header, of which those that cannot be read are left out."""
    found = pydicom().Dataset()
    for name in names:
        try:
            if name in header:
                found[name] = header[name]
        except (ValueError, TypeError, OverflowError):
            log.debug("%s is left out", name)
    return found


def adopt(ds: Any, patient: Any) -> None:
    """Take over patient and study; the rest of a header (operators, devices, protocols) is the source's alone."""
    for name in PATIENT_AND_STUDY:
        if name in patient:
            ds[name] = copy.deepcopy(patient[name])  # an element that two objects share would change in both
        elif name in _MAY_BE_EMPTY:
            setattr(ds, name, None)
        elif name in ds:
            delattr(ds, name)
