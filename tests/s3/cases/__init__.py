"""All cases, by subject."""

import fnmatch

from cases import (
    blob, bodies, checksums, conditions, copies, deletes, errors, keys, lists, metadata, multipart, overwrites, parts, presigned,
    ranges, versions, writing,
)

SUBJECTS = [
    # The longest first.
    multipart, parts, bodies, ranges, conditions, metadata, presigned, errors, lists, checksums, writing, copies, deletes,
    overwrites, versions, blob,
]

# Other S3 servers: what depends on them is tried at each, and what the endpoints decide by themselves at SeaweedFS alone.
MATRIX = ["moto", "versitygw", "s3proxy"]
LEFT_OUT = [
    # Decided by the endpoints: pairs of conditions, odd ranges, signatures, virtual hosts.
    "condition/*+*", "condition/odd/*", "condition/HEAD/*", "condition/if-range-alone/*", "condition/beyond/*", "range/odd/*", "presigned/*",
    "signature/*", "virtual/*", "override/head_object/*", "error/no-bucket/*", "error/method/*", "error/post/*", "error/out-of-the-way/*",
    # The same once more, with more bytes or another name.
    "*three-blocks*", "*ten-blocks*", "*two-blocks*", "*/block/*", "*/block-1/*", "*/block", "*/block-1", "key-raw/*", "list/list_objects/*", "metadata/head/*",
    "delete-many/hundred/*", "delete-many/over-a-thousand", "multipart/50-parts", "multipart/[346]-parts", "part/fifty", "part/edges/*",
    "copy/blocks", "copy-part/range/*", "overwrite/2097157-*", "overwrite/ten-times", "write/complete/*", "checksum/type/*", "upload/trailer/*/wrong",
    "range/one/*", "range/*/bytes=0-1048*", "range/*/bytes=0-209*", "range/*/bytes=209*", "head/*/bytes=*", "blob/size/*/head", "metadata/put/*",
    "multipart/gaps", "multipart/backwards", "multipart/two-at-once", "multipart/wrong-size", "multipart/right-size",
]


def all_cases(origin, block):
    """Those that this kind of origin can answer."""
    if origin == "exact":
        return list(keys.cases(block, exact=True))
    chosen = [case for subject in [*SUBJECTS, keys] for case in subject.cases(block)]
    if origin in MATRIX:
        chosen = [case for case in chosen if not any(fnmatch.fnmatchcase(case.name, pattern) for pattern in LEFT_OUT)]
    return chosen
