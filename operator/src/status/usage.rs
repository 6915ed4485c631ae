//! Usage in the status, rounded so that small changes cause no write. Pure.

use crate::crd::status::FalconCacheStatus;
use crate::observe::pod_metrics::CacheMetrics;

/// Updates the usage in a status. Without metrics the last values stay, unless no pod is desired.
pub(super) fn update(status: &mut FalconCacheStatus, metrics: Option<&CacheMetrics>, desired: i32) {
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
    let Some(metrics) = metrics else { return };
    status.ring_members = metrics
        .ring_members
        .and_then(|members| i32::try_from(members).ok());
    status.hit_ratio = Some(metrics.hit_ratio().unwrap_or_else(|| "-".to_owned()));
    // Changes below a hundredth of the capacity are ignored.
    let changed = status
        .used_bytes
        .is_none_or(|before| (before - metrics.used_bytes).abs() > metrics.capacity_bytes / 100);
    if changed || status.capacity_bytes != Some(metrics.capacity_bytes) {
        status.used_bytes = Some(metrics.used_bytes);
        status.capacity_bytes = Some(metrics.capacity_bytes);
        status.used = Some(format!(
            "{}/{}",
            format_bytes(metrics.used_bytes),
            format_bytes(metrics.capacity_bytes)
        ));
    }
}

/// `1536 MiB` as `1.5Gi`.
fn format_bytes(bytes: i64) -> String {
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
            assert_eq!(format_bytes(bytes), text);
        }
    }
}
