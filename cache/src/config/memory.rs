//! How much memory objects get, and in which pieces they are kept. Pure.

use super::args::MemoryArgs;
use super::environment::Environment;
use super::error::{Error, must_be};

const MB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// Without a memory limit of the container.
const DEFAULT_MB: u64 = 512;

/// A sidecar shares the application's memory.
const DEFAULT_SIDECAR_MB: u64 = 64;

/// With fewer blocks than this, every fill would evict what the one before it brought.
const MIN_BLOCKS: u64 = 16;

/// The process needs memory of its own beside the objects: above this share of the limit it is at risk.
const SAFE_SHARE_PERCENT: u64 = 80;

/// All in bytes.
pub(super) struct Memory {
    pub(super) max_cache_size: u64,
    pub(super) replica_share: u64,
    pub(super) block_size: u64,
    pub(super) max_blob_size: u64,
}

pub(super) fn memory(
    raw: &MemoryArgs,
    sidecar: bool,
    env: &Environment,
    warnings: &mut Vec<String>,
) -> Result<Memory, Error> {
    if !raw.block_size.is_power_of_two() || !(64..=16_384).contains(&raw.block_size) {
        return Err(must_be(
            "block-size",
            "a power of two between 64 and 16384 (KiB)",
            format_args!("{}. The default is 1024", raw.block_size),
        ));
    }
    let block_size = raw.block_size * KIB;
    let half = env.memory_limit.map(|limit| limit / 2 / MB);
    let (megabytes, whence) = match (raw.max_cache_size, half) {
        (Some(given), _) => (given, ""),
        // The container is the application's neighbour, and shares the pod's memory with it.
        (None, _) if sidecar => (DEFAULT_SIDECAR_MB, ", the default of a sidecar"),
        (None, Some(half)) => (half, ", half of this container's memory limit"),
        (None, None) => (DEFAULT_MB, ""),
    };
    let max_cache_size = megabytes * MB;
    if max_cache_size < MIN_BLOCKS * block_size {
        return Err(must_be(
            "max-cache-size",
            &format!(
                "at least {} (MB) to hold {MIN_BLOCKS} blocks of {} KiB",
                (MIN_BLOCKS * block_size).div_ceil(MB),
                raw.block_size
            ),
            format_args!("{megabytes}{whence}. Raise it, or lower --block-size"),
        ));
    }
    if let Some(limit) = env.memory_limit
        && max_cache_size > limit / 100 * SAFE_SHARE_PERCENT
    {
        warnings.push(format!(
            "--max-cache-size {megabytes} is more than {SAFE_SHARE_PERCENT} % of this container's memory limit of {} MB: the container may run out of memory and be killed; lower it, or raise the limit",
            limit / MB
        ));
    }
    // For a sidecar it says which objects the ring keeps, not what fits here.
    if raw.max_blob_size > megabytes && !sidecar {
        warnings.push(format!(
            "--max-blob-size {} is more than --max-cache-size {megabytes}: the largest objects evict all others, and themselves",
            raw.max_blob_size,
        ));
    }
    Ok(Memory {
        max_cache_size,
        // A sidecar owns nothing: whatever it holds is a replica.
        replica_share: if sidecar {
            max_cache_size
        } else {
            max_cache_size / 100 * u64::from(raw.replica_share)
        },
        block_size,
        max_blob_size: raw.max_blob_size * MB,
    })
}
