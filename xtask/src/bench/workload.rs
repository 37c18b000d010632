//! What is measured, and what it has to reach.

use dyad_bench::load::{Kind, Order};

/// One workload. Targets are for one image against tgt's single copy, unless they say something else.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub kind: Kind,
    pub random: bool,
    pub size: u32,
    pub depth: usize,
    /// Least ratio of rates to tgt.
    pub rate_target: Option<f64>,
    /// Highest ratio of server CPU time per command to tgt.
    pub cpu_target: Option<f64>,
    /// Least ratio of the rate with two images to that of tgt's single copy.
    pub two_images_target: Option<f64>,
    /// Least ratio of the rate at the owner of two nodes to that of tgt's single copy.
    pub two_nodes_target: Option<f64>,
    /// Highest ratio of the CPU time of all processes of two nodes to that of tgt's single copy.
    pub two_nodes_cpu: Option<f64>,
}

impl Workload {
    pub fn order(&self) -> Order {
        if self.random { Order::Random } else { Order::Sequential }
    }

    /// Commands of the first short run, which tells how many fill the wanted time.
    pub fn probe_count(&self) -> u64 {
        match (self.kind, self.size) {
            (Kind::WriteFlush, _) => 500,
            (_, 4096) => 3000,
            _ => 300,
        }
    }
}

/// At depth 1 a rate is one over a latency, which may be 1.4 times that of tgt's single copy.
const LATENCY: f64 = 1.0 / 1.4;

pub const WORKLOADS: [Workload; 7] = [
    Workload {
        name: "r4k-qd1",
        about: "4 KiB random read, depth 1",
        kind: Kind::Read,
        random: true,
        size: 4096,
        depth: 1,
        rate_target: Some(1.3),
        cpu_target: Some(0.6),
        two_images_target: None,
        two_nodes_target: Some(0.9),
        two_nodes_cpu: None,
    },
    Workload {
        name: "r4k-qd32",
        about: "4 KiB random read, depth 32",
        kind: Kind::Read,
        random: true,
        size: 4096,
        depth: 32,
        rate_target: Some(1.8),
        cpu_target: Some(0.35),
        two_images_target: None,
        two_nodes_target: Some(0.9),
        two_nodes_cpu: None,
    },
    Workload {
        name: "w4k-qd1",
        about: "4 KiB random write, depth 1",
        kind: Kind::Write,
        random: true,
        size: 4096,
        depth: 1,
        rate_target: Some(1.3),
        cpu_target: Some(0.6),
        two_images_target: None,
        two_nodes_target: Some(LATENCY),
        two_nodes_cpu: Some(1.0),
    },
    Workload {
        name: "w4k-qd32",
        about: "4 KiB random write, depth 32",
        kind: Kind::Write,
        random: true,
        size: 4096,
        depth: 32,
        rate_target: Some(1.8),
        cpu_target: Some(0.35),
        two_images_target: Some(1.2),
        two_nodes_target: Some(0.9),
        two_nodes_cpu: Some(1.0),
    },
    Workload {
        name: "wf4k-qd1",
        about: "4 KiB random write + flush, depth 1",
        kind: Kind::WriteFlush,
        random: true,
        size: 4096,
        depth: 1,
        rate_target: Some(1.0),
        cpu_target: None,
        two_images_target: None,
        two_nodes_target: None,
        two_nodes_cpu: None,
    },
    Workload {
        name: "r256k-qd8",
        about: "256 KiB sequential read, depth 8",
        kind: Kind::Read,
        random: false,
        size: 256 * 1024,
        depth: 8,
        rate_target: Some(1.5),
        cpu_target: None,
        two_images_target: None,
        two_nodes_target: Some(0.9),
        two_nodes_cpu: None,
    },
    Workload {
        name: "w256k-qd8",
        about: "256 KiB sequential write, depth 8",
        kind: Kind::Write,
        random: false,
        size: 256 * 1024,
        depth: 8,
        rate_target: Some(1.8),
        cpu_target: None,
        two_images_target: None,
        two_nodes_target: Some(0.9),
        two_nodes_cpu: None,
    },
];
