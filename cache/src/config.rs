//! Stand-in until the real module is merged.
