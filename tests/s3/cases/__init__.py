"""All cases, by subject."""

from cases import (
    bodies, checksums, conditions, copies, deletes, errors, keys, lists, metadata, multipart, overwrites, parts, presigned, ranges,
    versions, writing,
)

SUBJECTS = [
    # The longest first.
    multipart, parts, bodies, ranges, conditions, metadata, presigned, errors, lists, checksums, writing, copies, deletes,
    overwrites, versions,
]


def all_cases(origin, block):
    """Those that this kind of origin can answer."""
    if origin == "exact":
        return list(keys.cases(block, exact=True))
    return [case for subject in [*SUBJECTS, keys] for case in subject.cases(block)]
