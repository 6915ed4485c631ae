//! How much memory this process may use, according to its control groups.

use std::path::{Component, Path};

/// Larger limits mean that there is none: v1 writes "unlimited" as a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// The lowest memory limit, in bytes, of the process's control group and those above it; `None` if there is none.
///
/// `read` gives the text of a file, if the file exists.
pub(super) fn memory_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    // Without a line for a hierarchy its root is still read: in a container that is the container's own group.
    let (mut v1, mut v2) = ("/", "/");
    for line in groups.lines() {
        // hierarchy:controllers:path
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next(), fields.next()) {
            (Some(""), Some(path)) => v2 = path,
            (Some(controllers), Some(path))
                if controllers.split(',').any(|name| name == "memory") =>
            {
                v1 = path;
            }
            _ => {}
        }
    }
    for (root, path, file) in [
        ("/sys/fs/cgroup", v2, "memory.max"),
        ("/sys/fs/cgroup/memory", v1, "memory.limit_in_bytes"),
    ] {
        for group in groups_above(path) {
            let text = read(&Path::new(root).join(group).join(file));
            limits.extend(text.and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits
        .into_iter()
        .filter(|limit| (1..UNLIMITED).contains(limit))
        .min()
}

/// The group and all above it, the root last, relative to the root.
fn groups_above(path: &str) -> impl Iterator<Item = &Path> {
    let path = Path::new(path.strip_prefix('/').unwrap_or(path));
    // A group outside of the container's view is shown with `..`; then only the root can be read.
    let visible = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let path = if visible { path } else { Path::new("") };
    path.ancestors()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn limit(files: &[(&str, &str)]) -> Option<u64> {
        memory_limit(|path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| format!("{text}\n"))
        })
    }

    #[test]
    fn a_container_with_its_own_view_reads_the_root() {
        assert_eq!(
            limit(&[
                ("/proc/self/cgroup", "0::/"),
                ("/sys/fs/cgroup/memory.max", "1073741824"),
            ]),
            Some(1024 * MB)
        );
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_holds() {
        let files = [
            (
                "/proc/self/cgroup",
                "1:name=systemd:/x\n0::/kubepods/pod1/c1",
            ),
            ("/sys/fs/cgroup/kubepods/memory.max", "8589934592"),
            ("/sys/fs/cgroup/kubepods/pod1/memory.max", "536870912"),
            ("/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "max"),
        ];
        assert_eq!(limit(&files), Some(512 * MB));
    }

    #[test]
    fn the_old_kind_of_group_is_read_too() {
        let files = [
            (
                "/proc/self/cgroup",
                "11:cpu,cpuacct:/a\n4:memory:/docker/c1\n0::/",
            ),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
            (
                "/sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes",
                "268435456",
            ),
        ];
        assert_eq!(limit(&files), Some(256 * MB));
        // Shown with the host's path, mounted as the container's root.
        let files = [
            ("/proc/self/cgroup", "4:memory:/docker/c1"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456"),
        ];
        assert_eq!(limit(&files), Some(256 * MB));
    }

    #[test]
    fn a_group_that_cannot_be_seen_is_not_looked_for() {
        let files = [
            ("/proc/self/cgroup", "0::/../../secret"),
            ("/sys/fs/cgroup/../../secret/memory.max", "1"),
            ("/sys/fs/cgroup/memory.max", "1048576"),
        ];
        assert_eq!(limit(&files), Some(MB));
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit(&[]), None);
        for text in ["max", "", "nonsense", "0", "9223372036854771712"] {
            let files = [
                ("/proc/self/cgroup", "0::/"),
                ("/sys/fs/cgroup/memory.max", text),
            ];
            assert_eq!(limit(&files), None, "{text}");
        }
    }
}
