//! What an administrator may set, with its default. Reading files is somebody else's job.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use dyad_cluster::{Name, RESYNCS_AT_ONCE};
use dyad_units::{Bytes, Period};

/// Port of iSCSI (RFC 7143 §13, IANA `iscsi-target`).
pub const ISCSI_PORT: u16 = 3260;

/// Everything that a node is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name shown to people; default `node-1`. The identity is an id of its own, kept in `data_dir`.
    pub node_name: String,
    /// Site, the failure domain that the node is in; default `site-1`.
    pub site: String,
    /// Directory of the config store; created (mode 0700) if missing. Default `/var/lib/dyad`.
    pub data_dir: PathBuf,
    /// Directory in memory (tmpfs) for the logs of recent operations (P6). `None`, the default: the first of
    /// `/dev/shm` and `$XDG_RUNTIME_DIR` that is a tmpfs.
    pub shm_dir: Option<PathBuf>,
    /// Size of one pool's log of recent operations; default 8 MiB, at least 1 MiB.
    pub recent_log: Bytes,
    /// Where the cluster's records are kept; default: in a file in `data_dir`, for a node alone.
    pub store: StoreChoice,
    /// The way to the other nodes.
    pub peer: PeerSettings,
    /// Where administrators reach this node over the network, for the other nodes to know; empty, the default: nowhere.
    pub admin: Vec<String>,
    /// iSCSI.
    pub iscsi: IscsiSettings,
    /// Disks.
    pub disk: DiskSettings,
    /// Memory for data on its way between hosts and disks; default 512 MiB, at least 64 MiB. Over it, hosts
    /// are made to wait.
    pub buffers: Bytes,
    /// Images that come back to volumes of this node at a time, and beside them as many new ones that are filled; default
    /// [`RESYNCS_AT_ONCE`], 1 to 64. The others wait for their turn.
    pub resyncs_at_once: u32,
    /// How long a graceful stop may take before what is left is cut off; default 30 s. Nothing acknowledged
    /// is lost by cutting off.
    pub stop_timeout: Period,
}

/// Where the cluster's records are kept (design section 8).
#[derive(Clone, Debug, Default)]
pub enum StoreChoice {
    /// In a file of this node, which is alone.
    #[default]
    Local,
    /// At an arbiter, the tie-breaker of two nodes.
    Arbiter {
        /// Its addresses; whichever answers is used.
        addresses: Vec<SocketAddr>,
        /// Certificates, and the name that the arbiter's must have. None: on this machine only.
        tls: Option<(dyad_store::Tls, String)>,
    },
    /// In etcd, three or more members.
    Etcd {
        /// The members' client URLs.
        endpoints: Vec<String>,
        /// What all keys start with.
        prefix: String,
        /// For `https`.
        tls: Option<dyad_store::etcd::EtcdTls>,
        /// Name and password.
        user: Option<(String, String)>,
        /// `http` to other machines.
        allow_plain: bool,
    },
}

/// The way to the other nodes.
#[derive(Clone, Debug, Default)]
pub struct PeerSettings {
    /// Where the other nodes come in; none: this node is alone.
    pub listen: Option<SocketAddr>,
    /// Where they reach this node, `address:port`, in the order in which they try; empty: where it listens.
    pub addresses: Vec<String>,
    /// Certificates, with which connections between nodes are encrypted. Without them they stay on this machine, unless
    /// `allow_plain` is set.
    pub tls: Option<dyad_store::Tls>,
    /// File with the private key of the certificates' authority, where this node may let others into the cluster.
    pub authority_key: Option<PathBuf>,
    /// The administrator's word that connections between nodes cross a network on which nobody listens: they are not
    /// encrypted, certificates or not.
    pub allow_plain: bool,
}

/// iSCSI: where to listen, who may come, how long to wait.
#[derive(Clone, Debug)]
pub struct IscsiSettings {
    /// Addresses to listen on; default `[::]:3260`, which takes IPv4 as well. Port 0 takes any free port.
    pub portals: Vec<SocketAddr>,
    /// First part of every target's name, a name authority of the administrator's (RFC 7143 §4.2.7.3); the
    /// volume's name follows after a colon. Default `iqn.2026-11.san.dyad`.
    pub target_prefix: String,
    /// Alias shown to hosts beside the target's name; default none.
    pub alias: Option<String>,
    /// Who may ask for the list of targets; default everyone, who is then shown the targets that it may use.
    pub discovery_chap: Option<Chap>,
    /// TCP connections in all; default 4096. Over it new ones are closed at once.
    pub connections_max: u32,
    /// Connections that have not logged in yet; default 1024. Over it the oldest is closed.
    pub half_open_max: u32,
    /// Time from connect to the end of login; default 15 s.
    pub login_timeout: Period,
    /// Silence after which a host is asked whether it is still there; default 10 s.
    pub nop_interval: Period,
    /// Time to answer that question, and time without progress of a host that does not read; default 10 s.
    pub nop_timeout: Period,
    /// Commands in flight per session; default 128, 1 to 1024.
    pub queue_depth: u32,
    /// Largest data segment accepted; default 256 KiB, 4 KiB to 1 MiB.
    pub receive_segment_max: Bytes,
    /// Largest solicited burst; default 1 MiB, at most 16 MiB.
    pub burst_max: Bytes,
    /// Largest unsolicited burst; default 256 KiB, at most `burst_max`.
    pub first_burst_max: Bytes,
}

/// A name and a secret for CHAP (RFC 7143 §12.1.3); the secret is never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Chap {
    /// Name.
    pub user: String,
    /// Secret, 12 to 16 bytes for hosts that follow the RFC; longer ones are taken.
    pub secret: String,
}

impl std::fmt::Debug for Chap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chap").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Which way blocking disk operations go.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BackendChoice {
    /// io_uring, or threads where the kernel or a container forbids io_uring.
    #[default]
    Auto,
    /// io_uring; the node does not start where it is forbidden.
    IoUring,
    /// Threads.
    Threads,
}

/// Disks.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// How operations that may block are carried out; default `Auto`.
    pub backend: BackendChoice,
    /// Threads per disk where threads are used; default 4, 2 to 64.
    pub threads: u32,
    /// How long to wait for the lock of a pool, which the operations of a killed process may still hold;
    /// default 10 s.
    pub lock_timeout: Period,
    /// Written and not yet synced data per disk beyond which the disk is told to begin writing; default
    /// 256 MiB.
    pub writeback_start: Bytes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_name: "node-1".into(),
            site: "site-1".into(),
            data_dir: "/var/lib/dyad".into(),
            shm_dir: None,
            recent_log: Bytes::mib(8),
            store: StoreChoice::Local,
            peer: PeerSettings::default(),
            admin: Vec::new(),
            iscsi: IscsiSettings::default(),
            disk: DiskSettings::default(),
            buffers: Bytes::mib(512),
            resyncs_at_once: RESYNCS_AT_ONCE as u32,
            stop_timeout: Period::from_secs(30),
        }
    }
}

impl Default for IscsiSettings {
    fn default() -> Self {
        Self {
            portals: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), ISCSI_PORT)],
            target_prefix: "iqn.2026-11.san.dyad".into(),
            alias: None,
            discovery_chap: None,
            connections_max: 4096,
            half_open_max: 1024,
            login_timeout: Period::from_secs(15),
            nop_interval: Period::from_secs(10),
            nop_timeout: Period::from_secs(10),
            queue_depth: 128,
            receive_segment_max: Bytes::kib(256),
            burst_max: Bytes::mib(1),
            first_burst_max: Bytes::kib(256),
        }
    }
}

impl IscsiSettings {
    /// Name of the target of the volume with this name.
    pub fn target_of(&self, volume: &str) -> String {
        format!("{}:{volume}", self.target_prefix)
    }

    /// What connections are told, each of which may hold so many bytes of answers; the values were checked.
    pub(crate) fn for_connections(&self, answers_max: u64) -> dyad_iscsi::Settings {
        let bytes = |bytes: Bytes| u32::try_from(bytes.value()).unwrap_or(u32::MAX);
        dyad_iscsi::Settings {
            queue_depth: self.queue_depth as u16,
            receive_segment_bytes_max: bytes(self.receive_segment_max),
            burst_bytes_max: bytes(self.burst_max),
            first_burst_bytes_max: bytes(self.first_burst_max),
            login_timeout: self.login_timeout,
            ping_interval: self.nop_interval,
            ping_timeout: self.nop_timeout,
            send_timeout: self.nop_timeout,
            output_bytes_max: answers_max,
            ..dyad_iscsi::Settings::default()
        }
    }
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            threads: 4,
            lock_timeout: Period::from_secs(10),
            writeback_start: Bytes::mib(256),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("setting `{key}`: {problem}")]
pub struct BadSetting {
    /// Path of the key, as in the configuration file.
    pub key: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Settings {
    /// Checks every value against its bounds.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn check(&self) -> Result<(), BadSetting> {
        let ensure = |good: bool, key, problem: &str| {
            if good { Ok(()) } else { Err(BadSetting { key, problem: problem.into() }) }
        };
        let name = |text: &str, key| match text.parse::<Name>() {
            Ok(_) => Ok(()),
            Err(error) => Err(BadSetting { key, problem: error.to_string() }),
        };
        let within = |value: Bytes, low: Bytes, high: Bytes| (low..=high).contains(&value);
        let iscsi = &self.iscsi;
        name(&self.node_name, "node_name")?;
        name(&self.site, "site")?;
        ensure(within(self.recent_log, Bytes::mib(1), Bytes::gib(1)), "recent_log", "use 1 MiB to 1 GiB")?;
        ensure((1..=64).contains(&self.resyncs_at_once), "resyncs_at_once", "use 1 to 64")?;
        ensure(within(self.buffers, Bytes::mib(64), Bytes::gib(1024)), "buffers", "use 64 MiB to 1 TiB")?;
        self.check_peers()?;
        ensure(!iscsi.portals.is_empty(), "iscsi.portals", "name at least one address")?;
        ensure(iscsi.portals.len() <= PORTALS_MAX, "iscsi.portals", "name at most 64 addresses")?;
        ensure(is_iqn(&iscsi.target_prefix), "iscsi.target_prefix", "use a name such as iqn.2026-11.com.example")?;
        ensure(iscsi.connections_max >= 1, "iscsi.connections_max", "allow at least one connection")?;
        ensure(iscsi.half_open_max >= 1, "iscsi.half_open_max", "allow at least one connection")?;
        ensure((1..=1024).contains(&iscsi.queue_depth), "iscsi.queue_depth", "use 1 to 1024")?;
        let segment = within(iscsi.receive_segment_max, Bytes::kib(4), Bytes::mib(1));
        ensure(segment, "iscsi.receive_segment_max", "use 4 KiB to 1 MiB")?;
        let burst = within(iscsi.burst_max, Bytes::kib(4), Bytes::mib(16).min(Bytes::new((1 << 24) - 1)));
        ensure(burst, "iscsi.burst_max", "use 4 KiB to 16777215 bytes")?;
        let first = within(iscsi.first_burst_max, Bytes::new(512), iscsi.burst_max);
        ensure(first, "iscsi.first_burst_max", "use 512 bytes to burst_max")?;
        ensure((2..=64).contains(&self.disk.threads), "disk.threads", "use 2 to 64")?;
        let start = within(self.disk.writeback_start, Bytes::mib(1), Bytes::gib(64));
        ensure(start, "disk.writeback_start", "use 1 MiB to 64 GiB")
    }
}

impl Settings {
    fn check_peers(&self) -> Result<(), BadSetting> {
        let peer = &self.peer;
        let bad = |key, problem: &str| Err(BadSetting { key, problem: problem.into() });
        let is_alone = matches!(self.store, StoreChoice::Local);
        match peer.listen {
            None if !peer.addresses.is_empty() => bad("peer.addresses", "set `peer.listen` as well"),
            None if !is_alone => {
                bad("peer.listen", "with a config store that nodes share, say where they reach this one")
            }
            Some(_) if is_alone => bad("store.kind", "nodes need a config store that they share: arbiter or etcd"),
            Some(listen) if !listen.ip().is_loopback() && !peer.allow_plain && peer.tls.is_none() => bad(
                "peer.listen",
                "other machines can come here, so connections have to be encrypted: set `peer.ca`, `peer.certificate` and \
                 `peer.key` (`dyad cluster init` makes them), or `peer.tls = \"off\"` where nodes have a network of their \
                 own",
            ),
            Some(listen) if listen.ip().is_unspecified() && peer.addresses.is_empty() => {
                bad("peer.addresses", "say at which addresses the other nodes reach this one")
            }
            _ if peer.addresses.len() > dyad_cluster::PEERS_MAX => bad("peer.addresses", "name at most 8 addresses"),
            _ => Ok(()),
        }
    }
}

/// More addresses than any machine needs; each costs a descriptor.
const PORTALS_MAX: usize = 64;

/// `iqn.yyyy-mm.reversed.domain`, in the characters that RFC 3722 leaves; short enough for a volume's name after it.
fn is_iqn(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let bytes = rest.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    let dated = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7) && bytes.get(7) == Some(&b'.');
    let plain = bytes.iter().all(|&c| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-:".contains(&c));
    dated && plain && bytes.len() > 8 && name.len() <= 128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check().unwrap_err().key
        };
        assert_eq!(refused(|s| s.node_name = "a b".into()), "node_name");
        assert_eq!(refused(|s| s.iscsi.portals.clear()), "iscsi.portals");
        assert_eq!(refused(|s| s.iscsi.target_prefix = "eui.0".into()), "iscsi.target_prefix");
        assert_eq!(refused(|s| s.iscsi.first_burst_max = Bytes::mib(8)), "iscsi.first_burst_max");
        assert_eq!(refused(|s| s.disk.threads = 1), "disk.threads");
        assert_eq!(refused(|s| s.buffers = Bytes::mib(1)), "buffers");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let chap = Chap { user: "host".into(), secret: "not for your eyes".into() };
        assert!(!format!("{chap:?}").contains("eyes"));
    }
}
