//! Figures for the eye, rounded so that breathing is not news. Pure.

use crate::crd::status::FalconCacheStatus;
use crate::observe::figures::Figures;

/// Puts figures into a status. Without any, the last ones stay, unless no pod is wanted.
pub(super) fn report(status: &mut FalconCacheStatus, figures: Option<&Figures>, desired: i32) {
    if desired == 0 {
        (
            status.ring_members,
            status.hit_ratio,
            status.used_bytes,
            status.capacity_bytes,
            status.used,
        ) = (None, None, None, None, None);
        return;
    }
    let Some(figures) = figures else { return };
    status.ring_members = figures
        .ring_members
        .and_then(|members| i32::try_from(members).ok());
    status.hit_ratio = Some(figures.hit_ratio().unwrap_or_else(|| "-".to_owned()));
    // Less than a hundredth of the capacity is no news.
    let moved = status
        .used_bytes
        .is_none_or(|before| (before - figures.used_bytes).abs() > figures.capacity_bytes / 100);
    if moved || status.capacity_bytes != Some(figures.capacity_bytes) {
        status.used_bytes = Some(figures.used_bytes);
        status.capacity_bytes = Some(figures.capacity_bytes);
        status.used = Some(format!(
            "{}/{}",
            human(figures.used_bytes),
            human(figures.capacity_bytes)
        ));
    }
}

/// `1536 MiB` as `1.5Gi`.
fn human(bytes: i64) -> String {
    let (unit, size) = [
        ("Ti", 1_i64 << 40),
        ("Gi", 1 << 30),
        ("Mi", 1 << 20),
        ("Ki", 1 << 10),
    ]
    .into_iter()
    .find(|(_, size)| bytes >= *size)
    .unwrap_or(("", 1));
    let tenths = bytes / (size / 10).max(1);
    if size == 1 || tenths >= 100 || tenths % 10 == 0 {
        format!("{}{unit}", bytes / size)
    } else {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1 << 20, "1Mi"),
            (3 << 29, "1.5Gi"),
            (412 << 20, "412Mi"),
            (25 << 30, "25Gi"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
