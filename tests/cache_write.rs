//! Writing through the cache: uploads, lists, prewarms.
