//! A flag that is given empty, as charts do, is not given.

use std::path::PathBuf;

pub(super) fn text(flag: Option<String>) -> Option<String> {
    let flag = flag.map(|text| text.trim().to_owned());
    flag.filter(|text| !text.is_empty())
}

pub(super) fn path(flag: Option<PathBuf>) -> Option<PathBuf> {
    flag.filter(|path| !path.as_os_str().is_empty())
}

pub(super) fn list(flag: &[String]) -> Vec<String> {
    let entries = flag.iter().map(|entry| entry.trim().to_owned());
    entries.filter(|entry| !entry.is_empty()).collect()
}
