//! What an administrator should know about, found in what the node says of itself.

use dyad_api::model::{Severity, Trouble};
use dyad_node::control::{BackendInfo, NodeStatus, PoolInfo, PoolPhase, VolumePhase};

use super::told::sentence;

const UNREAD_NEWER: &str = "update Dyad on this node; until then what the record tells of is not served here, and nothing deleted that it may name";
const UNREAD_DAMAGED: &str =
    "seed the config store anew from what the nodes know (`dyad arbiter seed`, `dyad cluster seed`)";

/// Troubles, the worst first.
pub(super) fn of(status: &NodeStatus) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    volumes(status, &mut troubles);
    for pool in &status.pools {
        of_pool(pool, pool.node == status.node.id, &mut troubles);
    }
    of_stores(status, &mut troubles);
    of_other_stores(status, &mut troubles);
    of_node(status, &mut troubles);
    troubles.sort_by_key(|trouble| trouble.severity);
    troubles
}

fn trouble(severity: Severity, object: String, what: String, advice: &str) -> Trouble {
    Trouble { severity, object, what, advice: advice.into() }
}

fn volumes(status: &NodeStatus, troubles: &mut Vec<Trouble>) {
    for volume in &status.volumes {
        if let VolumePhase::Failed { reason } = &volume.phase {
            let object = format!("volume {}", volume.name);
            let advice = "bring that back; if it is lost for good, see `dyad volume promote --help`";
            troubles.push(trouble(Severity::Critical, object, sentence(reason), advice));
        } else if let Some(unread) = &volume.unread {
            let object = format!("volume {}", volume.name);
            let advice = "if an image that could read them is away, bring it back first: what is forgotten is lost";
            troubles.push(trouble(Severity::Critical, object, sentence(unread), advice));
        }
    }
}

fn of_pool(pool: &PoolInfo, is_own: bool, troubles: &mut Vec<Trouble>) {
    let object = || match is_own {
        true => format!("pool {}", pool.name),
        false => format!("pool {}/{}", pool.node_name, pool.name),
    };
    if let PoolPhase::Failed { reason } = &pool.phase {
        let advice = "volumes with an image elsewhere go on; mend or replace the disk, then restart the node";
        troubles.push(trouble(Severity::Warning, object(), sentence(reason), advice));
    } else if let Some(disk) = pool.disks.iter().find(|disk| disk.is_poisoned) {
        let what = format!("disk {} failed a write or a sync and is out of use", disk.path.display());
        let advice = "volumes with an image elsewhere go on; mend or replace the disk, then restart the node";
        troubles.push(trouble(Severity::Warning, object(), what, advice));
    } else if let Some(disk) = pool.disks.iter().find(|disk| disk.errors > 0) {
        let what = format!("disk {} failed operations: {}", disk.path.display(), disk.errors);
        let advice = "what it cannot read comes from another image, where there is one; look at the disk's health";
        troubles.push(trouble(Severity::Warning, object(), what, advice));
    }
    if pool.lost > 0 {
        let what = format!("its disk lost {} extents", pool.lost);
        let advice = "restore what volumes without another image held there from a backup";
        troubles.push(trouble(Severity::Critical, object(), what, advice));
    }
    if pool.damaged_now > 0 {
        let what = format!("{} blocks were found damaged and are not healed", pool.damaged_now);
        let advice = "they give hosts an error until they are written again; look at the disk's health";
        troubles.push(trouble(Severity::Critical, object(), what, advice));
    } else if pool.healed > 0 {
        let what = format!("{} damaged blocks were healed from another image", pool.healed);
        troubles.push(trouble(Severity::Notice, object(), what, "nothing was lost; look at the disk's health"));
    }
    if pool.adopted > 0 {
        let what = format!(
            "after a crash {} blocks were believed that no checksum vouches for, {} of them torn",
            pool.adopted, pool.torn
        );
        let advice = "hosts were writing them and had not flushed; a file system check on the host tells more";
        troubles.push(trouble(Severity::Notice, object(), what, advice));
    }
    let almost_full = pool.total.value() / 10;
    if matches!(pool.phase, PoolPhase::Open) && pool.free.value() < almost_full {
        let what = format!("{} of {} free", pool.free, pool.total);
        let advice = "when it is full, writes to new places fail; delete or move volumes, or make another pool";
        troubles.push(trouble(Severity::Warning, object(), what, advice));
    }
}

/// Nodes that are connected all the same.
fn of_other_stores(status: &NodeStatus, troubles: &mut Vec<Trouble>) {
    for node in status.neighbours.iter().filter(|node| node.told.is_some()) {
        if let Some(what) = &node.trouble {
            let advice = "I/O goes on, but a node that dies is not followed: let each node accept the new store \
                          (`dyad cluster accept-store`)";
            troubles.push(trouble(Severity::Warning, format!("node {}", node.name), sentence(what), advice));
        }
    }
}

/// Of every node that told: each may have lost its own way to the store.
fn of_stores(status: &NodeStatus, troubles: &mut Vec<Trouble>) {
    let told = status.neighbours.iter().filter_map(|node| node.told.as_deref());
    for node in std::iter::once(&status.node).chain(told) {
        if let Some(what) = &node.store_trouble {
            let advice = "I/O goes on, but a node that dies is not followed: bring the arbiter, or etcd, back";
            troubles.push(trouble(Severity::Warning, format!("node {}", node.name), sentence(what), advice));
        }
        for record in &node.unreadable {
            let (why, advice) = match record.newer {
                Some(version) => (format!("newer software wrote it (version {version})"), UNREAD_NEWER),
                None => ("it is damaged".to_owned(), UNREAD_DAMAGED),
            };
            let what = format!("node {} cannot read its record in the config store: {why}", node.name);
            troubles.push(trouble(Severity::Critical, record.object.clone(), what, advice));
        }
    }
}

fn of_node(status: &NodeStatus, troubles: &mut Vec<Trouble>) {
    let node = &status.node;
    let object = || format!("node {}", node.name);
    if node.faults > 0 {
        let what = format!("{} sessions or volumes were closed by a fault of the program", node.faults);
        troubles.push(trouble(Severity::Warning, object(), what, "report it with the node's log"));
    }
    if let BackendInfo::Threads { reason } = &node.backend {
        let what = format!("disks are reached by threads instead of io_uring, which is slower: {}", sentence(reason));
        troubles.push(trouble(Severity::Notice, object(), what, ""));
    }
}

#[cfg(test)]
mod tests {
    use dyad_node::control::{DiskInfo, DiskKind, IoCounters};
    use dyad_units::{Bytes, NodeId, PoolId};

    use super::*;

    fn pool(errors: u64) -> PoolInfo {
        let (id, name, size) = (PoolId::from_bytes([1; 16]), "a".to_owned(), Bytes::gib(1));
        let disk = DiskInfo {
            id: None,
            pool: id,
            pool_name: name.clone(),
            path: "/dev/x".into(),
            kind: DiskKind::BlockDevice,
            size,
            physical_block: 4096,
            is_direct: true,
            is_poisoned: false,
            io: IoCounters::default(),
            syncs: 0,
            errors,
        };
        PoolInfo {
            id,
            name,
            node: NodeId::from_bytes([2; 16]),
            node_name: "one".into(),
            phase: PoolPhase::Open,
            disks: vec![disk],
            total: size,
            free: size,
            provisioned: size,
            images: 1,
            orphans: Vec::new(),
            marked_regions: 0,
            damaged: 0,
            healed: 0,
            damaged_now: 0,
            adopted: 0,
            torn: 0,
            lost: 0,
            log: None,
        }
    }

    fn told(pool: &PoolInfo) -> Vec<String> {
        let mut troubles = Vec::new();
        of_pool(pool, true, &mut troubles);
        troubles.into_iter().map(|trouble| format!("{}: {}", trouble.object, trouble.what)).collect()
    }

    /// Broke once (review): a disk with thousands of unreadable sectors, healed from the other image one by one, was no trouble;
    /// only what did not match its checksum was.
    #[test]
    fn a_disk_that_fails_reads_is_a_trouble() {
        assert_eq!(told(&pool(0)), Vec::<String>::new());
        assert_eq!(told(&pool(7)), ["pool a: disk /dev/x failed operations: 7"]);
    }
}
