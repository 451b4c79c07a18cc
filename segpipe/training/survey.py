"""The look at the data before anything is decided: cases, audit, fingerprint."""

from __future__ import annotations

import logging

from segpipe.dataset.audit import audit, can_train
from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint, fingerprint
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.dataset.split import keep_together
from segpipe.errors import ConfigError, DataError
from segpipe.settings import Settings

log = logging.getLogger(__name__)
SHOWN_WARNINGS = 5


def survey(settings: Settings) -> tuple[list[Case], Fingerprint]:
    """Annotated cases, copies of one scan in one group, and the fingerprint of the data set.

    Raises:
        ConfigError: no data set is named.
        DataError: the audit found a fault with which training cannot start.
    """
    if not settings.dataset.root:
        raise ConfigError("dataset.root is empty; say where the data set lies: dataset.root=DIR")
    dataset = load_dataset(settings.dataset)
    facts = measure(dataset)
    findings = audit(dataset, facts)
    warnings = [finding for finding in findings if finding.severity == "warning"]
    for finding in warnings[:SHOWN_WARNINGS]:
        log.warning("%s: %s; %s", finding.file or finding.case, finding.what, finding.cure)
    if len(warnings) > SHOWN_WARNINGS:
        log.warning("%d more warnings: see `segpipe inspect %s`", len(warnings) - SHOWN_WARNINGS, settings.dataset.root)
    if not can_train(findings):
        errors = [finding for finding in findings if finding.severity == "error"]
        first = errors[0]
        more = f" ({len(errors) - 1} more: see `segpipe inspect {settings.dataset.root}`)" if len(errors) > 1 else ""
        raise DataError(f"{first.file or first.case}: {first.what}; {first.cure}{more}")
    labelled = [case for case in dataset.cases if case.label is not None]
    return list(keep_together(labelled, facts)), fingerprint(dataset, facts)
