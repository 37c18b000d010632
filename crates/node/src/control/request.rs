//! What an administrator asks for.

use std::path::PathBuf;

use dyad_units::Bytes;

use crate::settings::Chap;

/// Make a pool of one disk.
#[derive(Clone, Debug)]
pub struct CreatePool {
    /// Its name, unique on the node.
    pub name: String,
    /// A block device, or a file: made if missing.
    pub path: PathBuf,
    /// Size of the file, preallocated (P3). `None` for a block device or a file that is there: all of it.
    pub size: Option<Bytes>,
    /// The administrator says that the disk writes 4 KiB untorn although it does not say so itself (A5).
    pub assume_atomic_4k: bool,
}

/// Make a volume.
#[derive(Clone, Debug)]
pub struct CreateVolume {
    /// Its name, unique in the cluster; part of the target's name, so lower case letters, digits, `.` and `-`.
    pub name: String,
    /// Its size, rounded up to 4 KiB. Thin: takes space as it is written.
    pub size: Bytes,
    /// One image in each of these pools (name or id); all different.
    pub pools: Vec<String>,
    /// Logical block, 512 (default of the tools) or 4096 bytes.
    pub block_bytes: u32,
    /// Write cache: on, a write is acknowledged when it is in the memory of every image's machine (A1); off,
    /// when it is durable (A2).
    pub cache: bool,
    /// Fewest in-sync images with which writes are acknowledged (A4); at least 1.
    pub min_in_sync: u32,
    /// What happens to writes when there are fewer (A4).
    pub when_few: WhenFew,
    /// Who may log in.
    pub access: AccessRules,
}

/// What happens to writes while there are fewer in-sync images than `min_in_sync` (A4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenFew {
    /// They are answered with an error.
    #[default]
    Error,
    /// They wait.
    Wait,
}

/// Who may log in to a volume.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccessRules {
    /// iSCSI names of the hosts that may; empty: all.
    pub initiators: Vec<String>,
    /// What a host must prove to us (CHAP); `None`: nothing.
    pub chap: Option<Chap>,
    /// What we prove to a host that asks (mutual CHAP).
    pub mutual_chap: Option<Chap>,
}
