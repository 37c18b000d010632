//! Commands about the objects of a node.

use std::path::PathBuf;

use super::cluster::JoinNode;
use clap::{Args, Subcommand, ValueEnum};
use dyad_units::{Bytes, ImageId};

/// Names one object.
#[derive(Args, Debug)]
pub struct Show {
    /// Name or id
    pub name: String,
}

/// What can be done with pools.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List all pools
    List,
    /// Show one pool
    Show(Show),
    /// Create a pool on a disk that is not in use
    Create(CreatePool),
    /// Open a pool whose disk was missing, without waiting for the node to notice that it is back
    Open(Show),
    /// Delete a pool that holds no image
    Delete(DeletePool),
}

/// A pool to be created.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  dyad pool create fast --disk /dev/sdb
  dyad pool create try --disk /srv/try.pool --size 100GiB")]
pub struct CreatePool {
    /// Name: lower-case letters, digits, `-` and `.`
    pub name: String,
    /// Block device, or file
    #[arg(long, value_name = "PATH")]
    pub disk: PathBuf,
    /// Create the file with this size; its space is reserved at once
    #[arg(long)]
    pub size: Option<Bytes>,
    /// The disk writes 4 KiB untorn although it does not say so (a power failure then tears no block)
    #[arg(long)]
    pub atomic_4k: bool,
}

/// A pool to be deleted.
#[derive(Args, Debug)]
pub struct DeletePool {
    /// Name or id
    pub name: String,
    /// Delete it although it holds images that belong to no known volume; what is in them is lost
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What can be done with disks.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// List all disks
    List,
    /// Show one disk
    Show {
        /// Path or id
        disk: String,
    },
}

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List all volumes
    List,
    /// Show one volume with its images
    Show(Show),
    /// Create a volume with one image in each of some pools
    Create(CreateVolume),
    /// Delete a volume and its data
    Delete(DeleteVolume),
    /// Hand a volume over to another node that has an image in-sync, in use
    MoveOwner(MoveOwner),
    /// Say which node should own a volume, and whether it gets it back by itself after a failover
    PreferOwner(PreferOwner),
    /// Limit what the hosts of a volume may ask of it, in use
    Qos(Qos),
    /// Say which hosts may use a volume, and whether they may write, in use
    Access(ChangeAccess),
    /// Serve a volume from an image that may lack acknowledged writes, after its owner was lost for good
    Promote(Promote),
    /// Forget all reservations of a volume's hosts that nobody can read, so that they can begin anew
    ForgetReservations(ForgetReservations),
}

/// Limits of a volume.
#[derive(Args, Debug)]
#[command(after_help = "\
What is not given stays as it is; 0 lifts a limit. Over a limit commands wait, fairly between the hosts; other volumes feel
nothing of it.

Examples:
  dyad volume qos vm1 --iops 2000 --bandwidth 100MiB --burst 30
  dyad volume qos vm1 --iops 0 --bandwidth 0 --burst 0")]
pub struct Qos {
    /// Name or id
    pub name: String,
    /// Commands that read or write, per second
    #[arg(long, value_name = "N")]
    pub iops: Option<u32>,
    /// Bytes read and written per second
    #[arg(long, value_name = "SIZE")]
    pub bandwidth: Option<Bytes>,
    /// For so many seconds what was not used is saved up, and may be used at once later
    #[arg(long, value_name = "SECONDS")]
    pub burst: Option<u16>,
}

/// Hosts of a volume.
#[derive(Args, Debug)]
#[command(after_help = "\
The first host that is allowed by name closes the volume to all others. Hosts that are logged in feel a change at once.

Examples:
  dyad volume access vm1 allow iqn.1993-08.org.debian:01:a
  dyad volume access vm1 allow iqn.1993-08.org.debian:01:backup --read-only
  dyad volume access vm1 deny iqn.1993-08.org.debian:01:a
  dyad volume access vm1 allow all
  dyad volume access vm1 list")]
pub struct ChangeAccess {
    /// Name or id
    pub name: String,
    /// What to do
    pub action: AccessAction,
    /// The host's iSCSI name, or `all`
    #[arg(value_name = "IQN", required_if_eq_any([("action", "allow"), ("action", "deny")]))]
    pub host: Option<String>,
    /// It may read and not write
    #[arg(long)]
    pub read_only: bool,
}

/// What is done with the hosts of a volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum AccessAction {
    /// Let a host use the volume, or change what it may do
    Allow,
    /// Let a host use the volume no more
    Deny,
    /// List the hosts that may
    List,
}

/// A volume to be handed over.
#[derive(Args, Debug)]
pub struct MoveOwner {
    /// Name or id
    pub name: String,
    /// The node that is to own it [default: another one that has an image in-sync]
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
}

/// A wish for an owner.
#[derive(Args, Debug)]
pub struct PreferOwner {
    /// Name or id
    pub name: String,
    /// The node that should own it; left out: no wish
    pub node: Option<String>,
    /// It gets the volume back by itself when it has been well for so many seconds [default: by hand]
    #[arg(long, value_name = "SECONDS", requires = "node")]
    pub automatic_after: Option<u32>,
}

/// A forced promotion.
#[derive(Args, Debug)]
#[command(after_help = "\
Without --yes-lose-data it only says what would be lost. Make sure that the node that owned the volume is off, and stays
off until it is connected to the others again: what only its image has is kept there until you remove it.")]
pub struct Promote {
    /// Name or id
    pub name: String,
    /// The image: its id, NODE or NODE/POOL
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// What is lost was looked at and is accepted; the old owner is off
    #[arg(long)]
    pub yes_lose_data: bool,
}

/// Reservations to be forgotten.
#[derive(Args, Debug)]
#[command(after_help = "\
Where no image can read who registered and reserved a volume, hosts get errors from it, and `dyad volume show` says so. This lets
all of them begin anew: nobody is registered or holds a reservation, mode parameters are back to their defaults, and every host
is told (RESERVATIONS PREEMPTED). What is on the volume stays as it is. Without --yes-lose-reservations nothing is done.

Reservations keep the nodes of a host cluster from writing to one disk at the same time: first stop all of them but one.")]
pub struct ForgetReservations {
    /// Name or id
    pub name: String,
    /// It is accepted that all reservations, registrations and mode parameters are lost
    #[arg(long)]
    pub yes_lose_reservations: bool,
    /// Although they can be read, so that hosts may rely on them, as when a host that is gone for good holds the volume
    #[arg(long)]
    pub force: bool,
}

/// A volume to be created.
#[derive(Args, Debug)]
#[command(after_help = "\
Secrets are read from files, so that they stand neither in the shell's history nor in the list of processes.

Examples:
  dyad volume create vm1 100GiB
  dyad volume create db 1TiB --pool fast --pool other --block-bytes 4096 \\
      --initiator iqn.1993-08.org.debian:01:db --chap-user db --chap-secret-file db.secret")]
pub struct CreateVolume {
    /// Name: lower-case letters, digits, `-` and `.`; it ends the target name
    pub name: String,
    #[command(flatten)]
    pub size: VolumeSize,
    /// Pool that gets an image, of another node as NODE/POOL; name it once per image, the one preferred for reads first
    /// [default: one on this node and one on another]
    #[arg(long = "pool", value_name = "POOL")]
    pub pools: Vec<String>,
    /// Logical block that hosts see: 512 or 4096
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    pub block_bytes: u32,
    /// Answer writes only when they are durable; for hosts that never flush
    #[arg(long)]
    pub no_write_cache: bool,
    /// Fewest in-sync images with which writes are answered
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub min_in_sync: u32,
    /// What happens to writes while there are fewer
    #[arg(long, value_name = "WHAT", default_value = "error")]
    pub when_few: WhenFewWord,
    /// Host that may log in, by its iSCSI name; may be given several times [default: all]
    #[arg(long = "initiator", value_name = "IQN")]
    pub initiators: Vec<String>,
    /// CHAP name that hosts must prove
    #[arg(long, value_name = "NAME", requires = "chap_secret_file")]
    pub chap_user: Option<String>,
    /// File with the CHAP secret that hosts must prove
    #[arg(long, value_name = "FILE", requires = "chap_user")]
    pub chap_secret_file: Option<PathBuf>,
    /// CHAP name that the target proves to hosts (mutual CHAP)
    #[arg(long, value_name = "NAME", requires = "mutual_chap_secret_file", requires = "chap_user")]
    pub mutual_chap_user: Option<String>,
    /// File with the CHAP secret that the target proves
    #[arg(long, value_name = "FILE", requires = "mutual_chap_user")]
    pub mutual_chap_secret_file: Option<PathBuf>,
}

/// Size of a new volume, given in exactly one of two ways.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct VolumeSize {
    /// Size; space is taken as it is written
    pub size: Option<Bytes>,
    /// The same, as an option
    #[arg(long = "size", value_name = "SIZE")]
    pub size_option: Option<Bytes>,
}

/// What happens to writes while too few images are in-sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WhenFewWord {
    /// They are answered with an error
    Error,
    /// They wait
    Wait,
}

/// A volume to be deleted.
#[derive(Args, Debug)]
#[command(after_help = "All of its images are deleted, and the data with them. There is no way back.")]
pub struct DeleteVolume {
    /// Name or id
    pub name: String,
    /// Delete it although hosts are logged in; they are disconnected
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// List all images
    List,
    /// Show one image
    Show {
        /// Id
        id: String,
    },
    /// Add an image to a volume, in use
    Add(AddImage),
    /// Move an image to another node or pool, in use: one is added there, and takes its place when it is in-sync
    Move(MoveImage),
    /// Remove an image from its volume; its node deletes the data
    Remove(RemoveImage),
    /// Detach an image: it stays as it is, a copy of this moment
    Detach(NameImage),
    /// Let an image catch up that is detached or was taken out; only what changed is copied
    Reattach(ReattachImage),
    /// Make a detached image a read-only target of its own, or copy it into a file
    Export(ExportImage),
    /// Make it a target no more; hosts that read it are disconnected
    Unexport(NameImage),
    /// What a forced promotion of an image would lose, or what only a detached image has
    Loss(NameImage),
    /// Delete an image that no record names, as `dyad pool show` lists it
    DeleteOrphan(DeleteOrphan),
}

/// An image that no record names.
#[derive(Args, Debug)]
#[command(after_help = "\
Left by a deletion that was cut short, by a node that was removed, or in a pool that was away meanwhile; to be asked of the
pool's node. It is refused while a record of the config store cannot be read.")]
pub struct DeleteOrphan {
    /// Its id
    pub image: ImageId,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Names an image of a volume.
#[derive(Args, Debug)]
pub struct NameImage {
    /// The volume, by name or id
    pub volume: String,
    /// The image: its id, NODE or NODE/POOL
    pub image: String,
}

/// An image to be read by itself.
#[derive(Args, Debug)]
#[command(after_help = "\
The target is at the portals of the image's node, for the hosts of the volume, write protected, a disk of its own for multipath
drivers. It is the image as it was when it was detached, until `dyad image unexport`; reattaching or removing the image ends
it, with the sessions of hosts.

A backup without a window:
  dyad image detach vm1 two
  dyad image export vm1 two                       (prints the target)
  qemu-img convert iscsi://192.0.2.2/TARGET/0 vm1.qcow2
  dyad image reattach vm1 two                     (only what changed comes over)

The same into a file, without a host:
  dyad image export vm1 two --output vm1.img      (to be asked of node two)")]
pub struct ExportImage {
    /// The volume, by name or id
    pub volume: String,
    /// The image: its id, NODE or NODE/POOL
    pub image: String,
    /// Copy it into this file instead, to be asked of its node; what is zero takes no space in it
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// An image to be added.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  dyad image add vm1 --node three")]
pub struct AddImage {
    /// The volume, by name or id
    pub volume: String,
    /// The node that gets it [default: one that has none, with most room]
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// The pool that gets it, POOL or NODE/POOL [default: the one with most room]
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
}

/// An image to be moved.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  dyad image move vm1 one --to three")]
pub struct MoveImage {
    /// The volume, by name or id
    pub volume: String,
    /// The image: its id, NODE or NODE/POOL
    pub image: String,
    /// The node that gets it [default: one that has none, with most room]
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// The pool that gets it, POOL or NODE/POOL [default: the one with most room]
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
}

/// An image to be removed.
#[derive(Args, Debug)]
pub struct RemoveImage {
    /// The volume, by name or id
    pub volume: String,
    /// The image: its id, NODE or NODE/POOL
    pub image: String,
    /// Although the volume is not redundant any more then
    #[arg(long)]
    pub force: bool,
    /// Without waiting for its node, which never comes back
    #[arg(long)]
    pub forget: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// An image to be let back in.
#[derive(Args, Debug)]
pub struct ReattachImage {
    /// The volume, by name or id
    pub volume: String,
    /// The image: its id, NODE or NODE/POOL
    pub image: String,
    /// What it alone has since a forced promotion is given up
    #[arg(long)]
    pub yes_lose_data: bool,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List all sessions
    List,
    /// Show one session
    Show {
        /// NODE:NUMBER, or its number alone where no other node has one of that number
        #[arg(value_name = "SESSION")]
        session: String,
    },
    /// Close a session; most hosts log in again by themselves
    Delete(DeleteSession),
}

/// A session to be closed.
#[derive(Args, Debug)]
pub struct DeleteSession {
    /// NODE:NUMBER, or its number alone where no other node has one of that number
    #[arg(value_name = "SESSION")]
    pub session: String,
}

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List all nodes known to the one that is asked
    List,
    /// Show one node [default: the one that is asked]
    Show {
        /// Name or id
        name: Option<String>,
    },
    /// Make a token with which another machine joins the cluster: good once, for 15 minutes
    Token,
    /// Make this machine a node of a cluster: run it there, with a token
    Join(JoinNode),
    /// Let a node give its volumes to others, for service or before it is removed
    Drain {
        /// Name or id
        name: String,
        /// Let it serve again
        #[arg(long)]
        undo: bool,
    },
    /// Take a node without images out of the cluster
    Remove {
        /// Name or id
        name: String,
    },
}
