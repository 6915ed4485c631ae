//! What the flags' meaning depends on beside the flags: the machine, or the pod.

use std::net::IpAddr;
use std::path::Path;

use super::cgroup;

/// Where the process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Bytes that the process may use.
    pub memory_limit: Option<u64>,
    /// The machine's name, or the pod's.
    pub hostname: Option<String>,
    /// The pod's address, as the kubelet writes it into the hosts file.
    pub pod_address: Option<IpAddr>,
    /// The pod's namespace, as its service account has it.
    pub namespace: Option<String>,
}

impl Environment {
    /// As it is on this machine.
    pub fn read() -> Self {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        let line = |path: &str| {
            let text = read(Path::new(path))?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let hostname = line("/proc/sys/kernel/hostname");
        let hosts = read(Path::new("/etc/hosts")).unwrap_or_default();
        Self {
            memory_limit: cgroup::memory_limit(read),
            pod_address: hostname
                .as_deref()
                .and_then(|name| pod_address(&hosts, name)),
            hostname,
            namespace: line("/var/run/secrets/kubernetes.io/serviceaccount/namespace"),
        }
    }
}

/// The address that a hosts file, as the kubelet writes it, gives the pod; IPv4 where it has both.
fn pod_address(hosts: &str, hostname: &str) -> Option<IpAddr> {
    let lines = hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut addresses: Vec<IpAddr> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|name| name == hostname).then_some(address)
        })
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_address_is_the_one_that_the_kubelet_wrote() {
        let hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost falcon-1\nfd00::7\tfalcon-1\n10.0.0.7\tfalcon-1.cache.apps.svc\tfalcon-1 # me\n10.0.0.8\tother\n";
        assert_eq!(pod_address(hosts, "falcon-1"), Some([10, 0, 0, 7].into()));
        assert_eq!(
            pod_address("fd00::7 falcon-1", "falcon-1"),
            "fd00::7".parse().ok()
        );
        assert_eq!(pod_address("127.0.1.1 falcon-1", "falcon-1"), None);
        assert_eq!(pod_address(hosts, "falcon"), None);
    }
}
