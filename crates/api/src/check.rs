//! What requests must look like before a node is asked: form and bounds. Whether names are taken or known is
//! the node's to say.

use std::collections::BTreeSet;

use dyad_cluster::{Access, AccessError, Chap, ChapPair, IMAGES_MAX, InitiatorName, LimitError, Limits, Name};
use dyad_units::{BLOCK_BYTES, Bytes, Span, VolumeId};

use crate::control::ControlError;
use crate::model::{self, CreateAccess, CreatePool, CreateVolume};

/// Longest path of a disk, as Linux has it (PATH_MAX less the closing zero).
const PATH_BYTES_MAX: usize = 4095;

fn invalid(field: &'static str, reason: impl Into<String>) -> ControlError {
    ControlError::Invalid { field, reason: reason.into() }
}

/// Names are found in paths beside ids, so none may look like one.
fn name(name: &str) -> Result<(), ControlError> {
    name.parse::<Name>().map_err(|error| invalid("name", error.to_string()))?;
    if name.parse::<VolumeId>().is_ok() {
        return Err(invalid("name", "a name must not look like an id"));
    }
    Ok(())
}

/// Checks a pool to be created.
pub(crate) fn create_pool(request: &CreatePool) -> Result<(), ControlError> {
    name(&request.name)?;
    match request.disks.as_slice() {
        [] => return Err(invalid("disks", "a pool needs a disk")),
        [_] => {}
        _ => return Err(ControlError::Unsupported { what: "a pool of more than one disk".into() }),
    }
    for disk in &request.disks {
        if !disk.path.starts_with('/') || disk.path.len() > PATH_BYTES_MAX || disk.path.contains('\0') {
            return Err(invalid("path", "a disk is named by its absolute path"));
        }
        if disk.size_bytes.is_some_and(|size| size == 0 || !size.is_multiple_of(u64::from(BLOCK_BYTES))) {
            return Err(invalid("size_bytes", "the size of a file is a multiple of 4 KiB, and not zero"));
        }
    }
    Ok(())
}

/// Checks a volume to be created.
pub(crate) fn create_volume(request: &CreateVolume) -> Result<(), ControlError> {
    name(&request.name)?;
    let size = request.size_bytes;
    if size == 0 || !size.is_multiple_of(u64::from(BLOCK_BYTES)) {
        return Err(invalid("size_bytes", "the size of a volume is a multiple of 4 KiB, and not zero"));
    }
    if size > Span::END_MAX {
        let (size, most) = (Bytes::new(size), Bytes::new(Span::END_MAX));
        return Err(invalid("size_bytes", format!("{size} is more than a volume can have, {most}")));
    }
    if !matches!(request.block_bytes, 512 | 4096) {
        return Err(invalid("block_bytes", format!("{} is neither 512 nor 4096", request.block_bytes)));
    }
    pools(&request.pools)?;
    // Without pools the node chooses two.
    let most = if request.pools.is_empty() { 2 } else { request.pools.len() };
    if request.min_in_sync == 0 || request.min_in_sync as usize > most {
        return Err(invalid("min_in_sync", format!("a volume of {most} images can want 1 to {most} of them")));
    }
    access(&request.access)
}

fn pools(pools: &[String]) -> Result<(), ControlError> {
    if pools.len() > IMAGES_MAX {
        return Err(invalid("pools", format!("a volume has at most {IMAGES_MAX} images, each in a pool of its own")));
    }
    let mut seen = BTreeSet::new();
    match pools.iter().find(|pool| !seen.insert(pool.as_str())) {
        Some(twice) => Err(invalid("pools", format!("`{twice}` is named twice; one pool holds one image of a volume"))),
        None => Ok(()),
    }
}

/// Checks an initiator's name.
pub(crate) fn initiator(name: Option<&str>) -> Result<(), ControlError> {
    let checked = name.map(InitiatorName::new).transpose();
    checked.map(|_| ()).map_err(|error| invalid("initiator", error.to_string()))
}

/// Checks limits.
pub(crate) fn limits(limits: &model::Limits) -> Result<(), ControlError> {
    let checked = Limits::new(limits.iops, limits.bytes_per_second, limits.burst_seconds);
    let field = |error: &LimitError| match error {
        LimitError::Iops(_) => "iops",
        LimitError::Bandwidth(_) => "bytes_per_second",
        LimitError::Burst(_) | LimitError::BurstAlone => "burst_seconds",
    };
    checked.map(|_| ()).map_err(|error| invalid(field(&error), error.to_string()))
}

/// The rules are those of the record that the access goes into.
fn access(request: &CreateAccess) -> Result<(), ControlError> {
    let refuse = |field| move |error: AccessError| invalid(field, error.to_string());
    let pair = |chap: &model::Chap| Chap::new(&chap.user, &chap.secret);
    let initiators: Result<_, _> = request.initiators.iter().map(|name| InitiatorName::new(name)).collect();
    let initiators = initiators.map_err(refuse("initiators"))?;
    let host = request.chap.as_ref().map(pair).transpose().map_err(refuse("chap"))?;
    let mutual = request.mutual_chap.as_ref().map(pair).transpose().map_err(refuse("mutual_chap"))?;
    let chap = match (host, mutual) {
        (Some(host), mutual) => Some(ChapPair { host, mutual }),
        (None, Some(_)) => return Err(invalid("mutual_chap", "it needs `chap` as well")),
        (None, None) => None,
    };
    Access::of(initiators, chap).check().map_err(refuse("access"))
}
