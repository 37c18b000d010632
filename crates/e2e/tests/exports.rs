//! A backup without a window, with real programs: `qemu-img` copies the exported image of a volume that a host goes on
//! writing to, and has the volume as it was when the image was detached.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dyad_bench::disk::Disk;
use dyad_e2e::cluster::{Cluster, Host, VOLUME};
use dyad_e2e::{finish, tools};
use serde_json::{Value, json};

const MIB: u64 = 64;
/// A copy takes seconds; on a busy machine many.
const COPY: Duration = Duration::from_secs(180);

#[test]
fn qemu_copies_the_moment_of_detaching_while_a_host_writes_on() {
    if !tools::has(&["qemu-img"]) {
        return;
    }
    let cluster = Cluster::start(MIB).unwrap();
    let holder = 1 - cluster.owner().unwrap();
    let admin = |node: usize| cluster.nodes[node].admin();
    let mut host = Host::new(&cluster, 77, MIB).unwrap();
    let mut rounds = 0;
    host.work(|| {
        rounds += 1;
        rounds > 200
    })
    .unwrap();
    let before = Disk::open(&cluster.paths().unwrap()[1 - holder]).unwrap().read_all().unwrap();
    let image = {
        let volume = admin(holder).get(&format!("/v1/volumes/{VOLUME}")).unwrap();
        let pool = ["a", "b"][holder];
        let is_it = |image: &&Value| image["pool"].as_str().unwrap().rsplit('/').next() == Some(pool);
        volume["images"].as_array().unwrap().iter().find(is_it).unwrap()["id"].as_str().unwrap().to_owned()
    };
    admin(1 - holder).post(&format!("/v1/images/{image}/detach"), &json!({})).unwrap();
    // Asked of the other node.
    let exported = admin(1 - holder).post(&format!("/v1/images/{image}/export"), &json!({})).unwrap();
    let target = exported["export"].as_str().unwrap();
    let url = format!("iscsi://{}/{target}/0", cluster.paths().unwrap()[holder].portal);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.raw");
    let copy = copy.to_str().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
        let qemu = |what: &str, args: &[&str]| finish("qemu-img", args, COPY)?.expect_success(what);
        let copied = qemu("copy", &["convert", "-f", "raw", "-O", "raw", &url, copy]);
        let compared = qemu("compare", &["compare", "-f", "raw", "-F", "raw", &url, copy]);
        is_over.store(true, Ordering::Relaxed);
        working.join().unwrap().unwrap();
        copied.and(compared).unwrap();
    });
    assert!(std::fs::read(copy).unwrap() == before, "the copy is not the moment of detaching");
    let after = Disk::open(&cluster.paths().unwrap()[1 - holder]).unwrap().read_all().unwrap();
    assert!(after != before, "nothing was written meanwhile");
    host.check().unwrap();
    // Nothing can be written there (libiscsi sees the protection and opens it read only, or is refused).
    let written = finish("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", copy, &url], COPY).unwrap();
    assert!(!written.is_success(), "an exported image was written");
    admin(holder).delete(&format!("/v1/images/{image}/export")).unwrap();
    let gone = finish("qemu-img", &["info", &url], COPY).unwrap();
    assert!(!gone.is_success(), "it is exported still");
    let back = json!({ "accept_loss": false });
    admin(holder).post(&format!("/v1/images/{image}/reattach"), &back).unwrap();
    cluster.until_redundant(1 - holder).unwrap();
}
