//! Parses and validates each part of the spec.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::crd::FalconCache;
use crate::crd::cache::{Cache, CacheFlags};
use crate::crd::network::{self, S3Auth};
use crate::crd::{origin, pod};
use crate::plan::units::{self, MIB};
use crate::plan::{
    AccountPlan, CaBundle, Error, Freshness, Identity, Memory, Monitor, OriginPlan, PodPlan,
    S3Gateway, overrides,
};

pub(super) fn identity(cache: &FalconCache) -> Result<Identity, Error> {
    let identity = Identity::from_object(cache);
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &identity.name;
    if name.len() > 50
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || name.ends_with('-')
        || !name.chars().all(allowed)
    {
        return Err(wrong(
            "metadata.name",
            "must have at most 50 lower case letters, digits and hyphens, and begin with a letter",
        ));
    }
    Ok(identity)
}

pub(super) fn origin(spec: &origin::Origin) -> Result<OriginPlan, Error> {
    if spec.buckets.is_empty()
        || spec
            .buckets
            .iter()
            .any(|bucket| bucket.is_empty() || bucket.contains([',', '/', ' ']))
    {
        return Err(wrong(
            "spec.origin.buckets",
            "must name at least one bucket; a name has no commas, slashes or blanks",
        ));
    }
    let endpoint = spec
        .endpoint
        .as_ref()
        .map(|url| url.trim_end_matches('/').to_owned());
    if endpoint
        .as_ref()
        .is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://"))
    {
        return Err(wrong(
            "spec.origin.endpoint",
            "must begin with http:// or https://",
        ));
    }
    let ca_bundle = match &spec.ca_bundle_ref {
        None => None,
        Some(reference) => Some(
            match (
                reference.config_map_name.clone(),
                reference.secret_name.clone(),
            ) {
                (Some(name), None) => CaBundle::ConfigMap {
                    name,
                    key: reference.key.clone(),
                },
                (None, Some(name)) => CaBundle::Secret {
                    name,
                    key: reference.key.clone(),
                },
                _ => {
                    return Err(wrong(
                        "spec.origin.caBundleRef",
                        "must have either configMapName or secretName",
                    ));
                }
            },
        ),
    };
    Ok(OriginPlan {
        buckets: spec.buckets.clone(),
        force_path_style: spec.force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        region: spec.region.clone(),
        credentials: spec.credentials_secret_ref.clone(),
        ca_bundle,
    })
}

pub(super) fn account(spec: &origin::Origin) -> Result<AccountPlan, Error> {
    match &spec.service_account_name {
        None => Ok(AccountPlan::Own(spec.service_account_annotations.clone())),
        Some(name) if spec.service_account_annotations.is_empty() => {
            Ok(AccountPlan::Existing(name.clone()))
        }
        Some(_) => Err(wrong(
            "spec.origin.serviceAccountAnnotations",
            "must be empty with serviceAccountName: annotate that account instead",
        )),
    }
}

pub(super) fn memory(spec: &Cache) -> Result<Memory, Error> {
    let bytes = units::size("spec.cache.memory", &spec.memory)?;
    let block = units::size("spec.cache.blockSize", &spec.block_size)?;
    if bytes < 64 * MIB {
        return Err(wrong("spec.cache.memory", "must be at least 64Mi"));
    }
    if !(64 * 1024..=16 * MIB).contains(&block) || block.count_ones() != 1 {
        return Err(wrong(
            "spec.cache.blockSize",
            "must be a power of two from 64Ki to 16Mi",
        ));
    }
    if bytes / 16 < block {
        return Err(wrong(
            "spec.cache.memory",
            "must hold at least 16 blocks of blockSize",
        ));
    }
    let max_blob_mib = units::size("spec.cache.maxBlobSize", &spec.max_blob_size)? / MIB;
    if max_blob_mib == 0 {
        return Err(wrong("spec.cache.maxBlobSize", "must be at least 1Mi"));
    }
    let cache_mib = bytes / MIB;
    Ok(Memory {
        cache_mib,
        pod_mib: pod_mib(cache_mib),
        block_kib: block / 1024,
        max_blob_mib,
    })
}

/// A pod's memory: a quarter more than the cache's budget, for fills and bodies in flight and for what the allocator
/// can't return, and 128 MiB for connections and the process itself.
fn pod_mib(cache_mib: i64) -> i64 {
    cache_mib
        .saturating_add(cache_mib.saturating_add(3) / 4)
        .saturating_add(128)
}

pub(super) fn freshness(spec: &Cache) -> Result<Freshness, Error> {
    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);
    const MILLISECOND: Duration = Duration::from_millis(1);
    // The limits of the cache's flags: a hundred years, and an hour.
    const CENTURY: Duration = Duration::from_hours(876_000);
    let bounded = |field: &str, text: &str, step, max: Duration| {
        let found = units::whole(field, text, step)?;
        if found > max {
            Err(wrong(
                field,
                "is too long: at most 1h, or for ttl and staleIfError 100 years",
            ))
        } else {
            Ok(found)
        }
    };
    let timeout = bounded("spec.cache.timeout", &spec.timeout, MILLISECOND, HOUR)?;
    if timeout.is_zero() {
        return Err(wrong("spec.cache.timeout", "must be more than 0s"));
    }
    Ok(Freshness {
        ttl: bounded("spec.cache.ttl", &spec.ttl, MINUTE, CENTURY)?,
        stale_if_error: bounded(
            "spec.cache.staleIfError",
            &spec.stale_if_error,
            MINUTE,
            CENTURY,
        )?,
        negative_ttl: bounded(
            "spec.cache.negativeTtl",
            &spec.negative_ttl,
            MILLISECOND,
            HOUR,
        )?,
        timeout,
    })
}

pub(super) fn flags(flags: &CacheFlags) -> Result<CacheFlags, Error> {
    if flags.read_only && flags.cache_on_write {
        return Err(wrong(
            "spec.cache.cacheOnWrite",
            "must be false with readOnly: nothing is uploaded through a read-only cache",
        ));
    }
    for (field, value, min, max) in [
        ("spec.cache.partsInFlight", flags.parts_in_flight, 1, 256),
        ("spec.cache.replicaShare", flags.replica_share, 0, 90),
        (
            "spec.cache.maxConnections",
            flags.max_connections,
            1,
            i32::MAX,
        ),
    ] {
        within(field, value, min, max)?;
    }
    Ok(*flags)
}

pub(super) fn drain(text: &str) -> Result<Duration, Error> {
    const FIELD: &str = "spec.rollout.drainTimeout";
    let drain = units::whole(FIELD, text, Duration::from_secs(1))?;
    if drain > Duration::from_hours(24) {
        Err(wrong(FIELD, "must be at most 24h"))
    } else {
        Ok(drain)
    }
}

pub(super) fn s3(
    spec: &network::S3,
    service: &network::Service,
) -> Result<Option<S3Gateway>, Error> {
    let port = within("spec.service.s3Port", service.s3_port, 1, 65_535)?;
    if port == service.port {
        return Err(wrong("spec.service.s3Port", "must differ from port"));
    }
    let access_secret = match (spec.auth, &spec.access_secret_ref) {
        (S3Auth::Keys, Some(secret)) => Some(secret.name.clone()),
        (S3Auth::None, None) => None,
        (S3Auth::Keys, None) => {
            return Err(wrong(
                "spec.s3.accessSecretRef",
                "is required for auth: Keys",
            ));
        }
        (S3Auth::None, Some(_)) => {
            return Err(wrong("spec.s3.accessSecretRef", "requires auth: Keys"));
        }
    };
    let is_domain = |domain: &String| !domain.is_empty() && !domain.contains([',', '/', ' ']);
    if !spec.domains.iter().all(is_domain) {
        return Err(wrong(
            "spec.s3.domains",
            "must be domains, such as s3.example.com, without commas, slashes or blanks",
        ));
    }
    Ok(spec.enabled.then(|| S3Gateway {
        port,
        access_secret,
        domains: spec.domains.clone(),
    }))
}

pub(super) fn pod(spec: &pod::Pod) -> Result<PodPlan, Error> {
    let cpu_request = spec
        .resources
        .cpu_request
        .as_ref()
        .map(|cpu| units::millicores("spec.pod.resources.cpuRequest", cpu))
        .transpose()?;
    let cpu_limit = spec
        .resources
        .cpu_limit
        .as_ref()
        .map(|cpu| units::millicores("spec.pod.resources.cpuLimit", cpu))
        .transpose()?;
    if let (Some(request), Some(limit)) = (cpu_request, cpu_limit)
        && request > limit
    {
        return Err(wrong(
            "spec.pod.resources.cpuLimit",
            "must not be less than cpuRequest",
        ));
    }
    Ok(PodPlan {
        labels: spec.labels.clone(),
        annotations: spec.annotations.clone(),
        node_selector: spec.node_selector.clone(),
        affinity: spec.affinity.clone(),
        tolerations: spec.tolerations.clone(),
        spread: spec.topology_spread.clone(),
        priority_class: spec.priority_class_name.clone(),
        cpu_request,
        cpu_limit,
        env: spec.env.clone(),
        security_context: spec.security_context.clone(),
        overrides: spec.overrides.as_ref().map(overrides::read).transpose()?,
    })
}

pub(super) fn monitor(spec: &network::Monitoring) -> Result<Option<Monitor>, Error> {
    let interval = units::whole(
        "spec.monitoring.interval",
        &spec.interval,
        Duration::from_secs(1),
    )?;
    Ok(spec.enabled.then(|| Monitor {
        kind: spec.kind,
        interval,
        labels: spec.labels.clone(),
    }))
}

pub(super) fn pods_or_percent(field: &str, value: &IntOrString) -> Result<IntOrString, Error> {
    let fine = match value {
        IntOrString::Int(pods) => *pods >= 1,
        IntOrString::String(text) => text
            .strip_suffix('%')
            .and_then(|number| number.parse::<u8>().ok())
            .is_some_and(|percent| (1..=100).contains(&percent)),
    };
    if fine {
        Ok(value.clone())
    } else {
        Err(wrong(
            field,
            "must be a number of pods (1 or more) or a percentage from 1% to 100%",
        ))
    }
}

pub(super) fn within(field: &str, value: i32, min: i32, max: i32) -> Result<i32, Error> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(wrong(field, &format!("must be between {min} and {max}")))
    }
}

fn wrong(field: &str, problem: &str) -> Error {
    Error {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}
