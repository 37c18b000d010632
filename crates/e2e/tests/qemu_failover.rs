//! qemu copies an image onto a volume over two nodes, and compares it, while one of them is killed: nothing of it is
//! noticed but a pause (A1, M8, M9, M18).

use std::time::Duration;

use dyad_e2e::cluster::{Cluster, VOLUME};
use dyad_e2e::scenario::make_image;
use dyad_e2e::{Target as _, finish, tools};
use tempfile::TempDir;

const MIB: u64 = 48;
/// Copied no faster, so that the kill comes in the middle.
const RATE: &str = "16M";
/// A copy takes seconds; on a busy machine many.
const COPY: Duration = Duration::from_secs(180);
/// So much is copied, or compared, when a node is killed.
const FAR: u64 = 8 << 20;

fn activity(cluster: &Cluster, node: usize, counter: &str) -> u64 {
    let shown = cluster.nodes[node].volume_field(VOLUME, &format!("/activity/{counter}"));
    shown.ok().and_then(|shown| shown.as_u64()).unwrap_or(0)
}

/// Kills `victim` when qemu-img has got far enough at the other node, and starts it again when qemu-img has ended.
fn while_killed(cluster: &mut Cluster, victim: usize, counter: &str, args: &[&str]) {
    let via = 1 - victim;
    let before = activity(cluster, via, counter);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| finish("qemu-img", args, COPY).unwrap());
        let is_far = || running.is_finished() || activity(cluster, via, counter) >= before + FAR;
        cluster.until("qemu-img is in the middle", is_far).unwrap();
        cluster.nodes[victim].kill().unwrap();
        running.join().unwrap().expect_success(&args.join(" ")).unwrap();
    });
    cluster.nodes[victim].start().unwrap();
    (0..2).for_each(|node| cluster.until_redundant(node).unwrap());
}

#[test]
fn qemu_copies_and_compares_an_image_while_a_node_is_killed() {
    if !tools::has(&["qemu-img"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let raw = dir.path().join("image.raw");
    make_image(&raw, MIB, 42).unwrap();
    let image = raw.to_string_lossy();
    let mut cluster = Cluster::start(MIB).unwrap();
    for is_owner_killed in [false, true] {
        let owner = cluster.owner().unwrap();
        let victim = if is_owner_killed { owner } else { 1 - owner };
        let url = cluster.nodes[1 - victim].unit(VOLUME).unwrap().url();
        let copy = ["convert", "-n", "-r", RATE, "-f", "raw", "-O", "raw", &image, &url];
        while_killed(&mut cluster, victim, "written_bytes", &copy);
        let owner = cluster.owner().unwrap();
        let victim = if is_owner_killed { owner } else { 1 - owner };
        let url = cluster.nodes[1 - victim].unit(VOLUME).unwrap().url();
        let compare = ["compare", "-f", "raw", "-F", "raw", &image, &url];
        while_killed(&mut cluster, victim, "read_bytes", &compare);
    }
    let wanted = std::fs::read(&raw).unwrap();
    for (node, found) in cluster.each_image().unwrap().iter().enumerate() {
        assert!(*found == wanted, "the image of node {node} is not what was copied");
    }
}
