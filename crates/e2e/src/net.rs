//! Two machines as far as the network goes: namespaces with a link between them, and one to here from each.
//!
//! ```text
//!   here (hosts, arbiter)          10.213.N.1 ─── "hosts" 10.213.N.2  node 0 ── "peer" 10.214.N.1 ─┐
//!                                  10.213.N.5 ─── "hosts" 10.213.N.6  node 1 ── "peer" 10.214.N.2 ─┘
//! ```
//!
//! Needs root, `ip`, `nsenter` and `nft`. Everything goes when it is dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::port;
use crate::process::finish;
use crate::tools;

/// How long any of the programs used here may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Networks of this kind at a time on this machine.
const NETS: u8 = 32;
const ISCSI: u16 = 3260;
const PEER: u16 = 8403;
const ARBITER: u16 = 8402;

/// The namespaces and links of two nodes.
#[derive(Debug)]
pub struct Net {
    number: u8,
    _lock: File,
}

impl Net {
    /// Makes them; `None`, said plainly, where that is not allowed or programs are missing.
    pub fn new() -> anyhow::Result<Option<Self>> {
        if !tools::has(&["ip", "nsenter", "nft"]) {
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return Ok(None);
        }
        let dir = port::lock_dir();
        std::fs::create_dir_all(&dir)?;
        for number in 0..NETS {
            let lock = File::create(dir.join(format!("net-{number}")))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let net = Self { number, _lock: lock };
            net.remove(); // what a killed run left
            if let Err(error) = net.make() {
                println!("skipped: no network namespace may be made here: {error:#}");
                return Ok(None);
            }
            return Ok(Some(net));
        }
        bail!("all {NETS} networks are taken")
    }

    fn make(&self) -> anyhow::Result<()> {
        for node in 0..2 {
            let (space, here) = (self.space(node), self.here(node));
            ip(&["netns", "add", &space])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["link", "add", &here, "type", "veth", "peer", "name", "hosts", "netns", &space])?;
            let (near, far) = (self.hosts(node, 1), self.hosts(node, 2));
            ip(&["addr", "add", &format!("{near}/30"), "dev", &here])?;
            ip(&["link", "set", &here, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{far}/30"), "dev", "hosts"])?;
            ip(&["-n", &space, "link", "set", "hosts", "up"])?;
            self.filter(node, "add table inet cut")?;
            self.filter(node, "add chain inet cut from_peer { type filter hook input priority 0 ; }")?;
        }
        let [one, other] = [self.space(0), self.space(1)];
        ip(&["-n", &one, "link", "add", "peer", "type", "veth", "peer", "name", "peer", "netns", &other])?;
        for (node, space) in [one, other].iter().enumerate() {
            ip(&["-n", space, "addr", "add", &format!("{}/30", self.peer(node).ip()), "dev", "peer"])?;
            ip(&["-n", space, "link", "set", "peer", "up"])?;
        }
        Ok(())
    }

    fn remove(&self) {
        for node in 0..2 {
            // With a namespace go its links and their other ends, but later than it: the next network would find the name taken.
            let _ = ip(&["link", "del", &self.here(node)]);
            let _ = ip(&["netns", "del", &self.space(node)]);
        }
    }

    fn space(&self, node: usize) -> String {
        format!("dyad-{}-{node}", self.number)
    }

    /// This side's end of a node's link to the hosts.
    fn here(&self, node: usize) -> String {
        format!("dyad{}h{node}", self.number)
    }

    fn hosts(&self, node: usize, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 4 * node as u8 + end)
    }

    /// What starts a program in a node's namespace.
    pub fn enter(&self, node: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.space(node))]
    }

    /// A node's portal.
    pub fn portal(&self, node: usize) -> SocketAddr {
        (self.hosts(node, 2), ISCSI).into()
    }

    /// Where a node listens for the other one.
    pub fn peer(&self, node: usize) -> SocketAddr {
        (Ipv4Addr::new(10, 214, self.number, node as u8 + 1), PEER).into()
    }

    /// Where the arbiter listens for a node.
    pub fn arbiter(&self, node: usize) -> SocketAddr {
        (self.hosts(node, 1), ARBITER).into()
    }

    /// The link between the nodes, down or up.
    pub fn set_peer_link(&self, is_up: bool) -> anyhow::Result<()> {
        ip(&["-n", &self.space(0), "link", "set", "peer", if is_up { "up" } else { "down" }])
    }

    /// All links of a node, down or up.
    pub fn set_node(&self, node: usize, is_up: bool) -> anyhow::Result<()> {
        for link in ["peer", "hosts"] {
            ip(&["-n", &self.space(node), "link", "set", link, if is_up { "up" } else { "down" }])?;
        }
        Ok(())
    }

    /// From now on nothing that the other node sends over their link reaches this one.
    pub fn deafen(&self, node: usize) -> anyhow::Result<()> {
        self.filter(node, "add rule inet cut from_peer iifname peer drop")
    }

    /// The end of that.
    pub fn hear(&self, node: usize) -> anyhow::Result<()> {
        self.filter(node, "flush chain inet cut from_peer")
    }

    /// Bytes that a node sent over the link between the nodes, with all headers.
    pub fn peer_bytes_sent(&self, node: usize) -> anyhow::Result<u64> {
        let args = ["-n", &self.space(node), "-s", "-j", "link", "show", "peer"];
        let shown = finish("ip", &args, LIMIT)?.expect_success("ip link show")?.output;
        let shown: Value = serde_json::from_str(&shown)?;
        shown.pointer("/0/stats64/tx/bytes").and_then(Value::as_u64).context("ip counts no bytes")
    }

    fn filter(&self, node: usize, command: &str) -> anyhow::Result<()> {
        let space = format!("--net=/run/netns/{}", self.space(node));
        finish("nsenter", &[&space, "nft", command], LIMIT)?.expect_success(command).map(drop)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    finish("ip", args, LIMIT)?.expect_success(&format!("ip {}", args.join(" "))).map(drop)
}
