//! The node's errors as the API's.

use std::error::Error;
use std::path::PathBuf;

use dyad_api::{ControlError, Kind};
use dyad_node::control::{
    CloseSessionError, CreatePoolError, CreateVolumeError, DeleteOrphanError, DeletePoolError, DeleteVolumeError,
    NodeChangeError, OpenPoolError, QueryError,
};
use dyad_node::join::TokenError;

/// An error with all its causes, in one sentence.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A failure inside of the node, with its causes.
fn failed(error: &(dyn Error + 'static)) -> ControlError {
    ControlError::Failed { what: chain(error) }
}

pub(super) fn query(error: QueryError) -> ControlError {
    match error {
        QueryError::Stopping => ControlError::Stopping,
        QueryError::Crowded { .. } => ControlError::Busy,
        QueryError::Silent { seconds } => ControlError::Timeout { seconds },
        QueryError::Unknown { kind, name } => ControlError::NotFound { kind: super::kind(kind), name },
        other => failed(&other),
    }
}

pub(super) fn create_pool(error: CreatePoolError) -> ControlError {
    let refused = |path: PathBuf, reason: String, advice: &str| ControlError::Disk {
        path: path.display().to_string(),
        reason,
        advice: advice.into(),
    };
    match error {
        CreatePoolError::BadName { .. } => ControlError::Invalid { field: "name", reason: error.to_string() },
        CreatePoolError::NameTaken { name } => ControlError::Exists { kind: Kind::Pool, name },
        CreatePoolError::SizeMissing { path } => {
            refused(path, "it does not exist".into(), "give a size (`--size`), and a file is made")
        }
        CreatePoolError::SizeDiffers { path, actual, wanted } => {
            refused(path, format!("it has {actual}, not {wanted}"), "leave the size out to use all of it")
        }
        CreatePoolError::PathTaken { path, pool } => {
            refused(path, format!("it belongs to the pool `{pool}` already"), "choose another disk")
        }
        CreatePoolError::NotEmpty { path, what } => {
            let advice = "choose another disk, or clear this one first (`wipefs -a` for a device)";
            refused(path, format!("it is not empty: {what}"), advice)
        }
        CreatePoolError::Disk { path, source } | CreatePoolError::Format { path, source } => {
            refused(path, chain(source.as_ref()), "mend that, or choose another disk; nothing was left behind")
        }
        CreatePoolError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn token(error: TokenError) -> ControlError {
    let what = chain(&error);
    ControlError::Unavailable { what, advice: "docs/administration.md, \"Several nodes\", has the whole story".into() }
}

pub(super) fn change_node(error: NodeChangeError) -> ControlError {
    match error {
        NodeChangeError::Unknown { name } => ControlError::NotFound { kind: Kind::Node, name },
        NodeChangeError::InUse { name, volumes } => {
            let by = format!("it has images of {}", volumes.join(", "));
            ControlError::InUse { kind: Kind::Node, name, by }
        }
        NodeChangeError::Itself => ControlError::Unavailable {
            what: "a node cannot remove itself".into(),
            advice: "stop it, then ask another node".into(),
        },
        NodeChangeError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn open_pool(error: OpenPoolError) -> ControlError {
    match error {
        OpenPoolError::Disk { .. } | OpenPoolError::Poisoned { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "mend that and try again; the node tries by itself when the disk is there".into(),
        },
        OpenPoolError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn delete_orphan(error: DeleteOrphanError) -> ControlError {
    let what = chain(&error);
    match error {
        DeleteOrphanError::Named { .. } => {
            let advice = "remove it from its volume (`dyad image remove`); nothing was deleted".into();
            ControlError::Refused { what, advice }
        }
        DeleteOrphanError::Store(_) => {
            let advice = "see `dyad status` and mend that first; nothing was deleted".into();
            ControlError::Refused { what, advice }
        }
        DeleteOrphanError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn delete_pool(error: DeletePoolError) -> ControlError {
    match error {
        DeletePoolError::InUse { pool, volumes } => {
            let by = format!("it holds images of {}; delete those volumes first", volumes.join(", "));
            ControlError::InUse { kind: Kind::Pool, name: pool, by }
        }
        DeletePoolError::Leftovers { pool, images } => {
            let images = if images == 1 { "an image".into() } else { format!("{images} images") };
            ControlError::Refused {
                what: format!("pool `{pool}` holds {images} of no volume known here"),
                advice:
                    "see whether `dyad volume list` lacks one; what is in there is lost with --force (`force=true`)"
                        .into(),
            }
        }
        DeletePoolError::Disk { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "clear the disk yourself before it is given to a pool again".into(),
        },
        DeletePoolError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn create_volume(error: CreateVolumeError) -> ControlError {
    match error {
        CreateVolumeError::BadName { .. } => ControlError::Invalid { field: "name", reason: error.to_string() },
        CreateVolumeError::NameTaken { name } => ControlError::Exists { kind: Kind::Volume, name },
        CreateVolumeError::BadSize { .. } => ControlError::Invalid { field: "size_bytes", reason: error.to_string() },
        CreateVolumeError::BadRequest { problem } => ControlError::Invalid { field: "volume", reason: problem },
        CreateVolumeError::Pool { ref pool, .. } => {
            let advice = format!("`dyad pool show {pool}` says more; or choose another pool");
            ControlError::Unavailable { what: chain(&error), advice }
        }
        CreateVolumeError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn delete_volume(error: DeleteVolumeError) -> ControlError {
    match error {
        DeleteVolumeError::InUse { volume, sessions } => {
            let by = if sessions == 1 { "1 session is open".into() } else { format!("{sessions} sessions are open") };
            ControlError::InUse { kind: Kind::Volume, name: volume, by }
        }
        DeleteVolumeError::Silent { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "start that node again, or add --force (`force=true`) if no host uses the volume through it".into(),
        },
        DeleteVolumeError::Pool { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "hosts no longer see the volume; bring the pool's disk back, or delete the pool".into(),
        },
        DeleteVolumeError::Waits { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "hosts no longer see the volume; start that node again, or remove it from the cluster".into(),
        },
        DeleteVolumeError::Node(error) => query(error),
        other => failed(&other),
    }
}

pub(super) fn close_session(error: CloseSessionError) -> ControlError {
    match error {
        CloseSessionError::Node(error) => query(error),
        CloseSessionError::NotDone { .. } => ControlError::Unavailable {
            what: chain(&error),
            advice: "look at `dyad node list`, or ask that node".into(),
        },
        other => failed(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_and_nobody_is_blamed_twice() {
        let cause = std::io::Error::other("device is gone");
        let error = CreatePoolError::Disk { path: "/dev/x".into(), source: Box::new(cause) };
        let ControlError::Disk { reason, .. } = create_pool(error) else { panic!("a refused disk") };
        assert_eq!(reason, "device is gone");
        let gone = CloseSessionError::Node(QueryError::Unknown { kind: "session", name: "7".into() });
        assert_eq!(close_session(gone).to_string(), "there is no session `7`");
    }
}
