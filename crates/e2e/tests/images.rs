//! What an administrator changes of a volume while a host writes to it, at two real nodes: its owner, its images, and
//! where they are (M10, M12, M13, M16).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_e2e::admin::Problem;
use dyad_e2e::cluster::{Cluster, Host, Shape, VOLUME};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const MIB: u64 = 64;
/// How long the host works between two commands.
const WORK: Duration = Duration::from_millis(500);

fn shown(cluster: &Cluster, node: usize) -> Value {
    cluster.nodes[node].admin().get(&format!("/v1/volumes/{VOLUME}")).unwrap()
}

fn sentence(cluster: &Cluster, node: usize) -> String {
    shown(cluster, node)["redundancy"]["sentence"].as_str().unwrap().to_owned()
}

/// The id of the image in a pool; pools of other nodes have their node's name before them.
fn image_in(volume: &Value, pool: &str) -> Option<String> {
    let images = volume["images"].as_array().unwrap().iter();
    let is_it = |image: &&Value| image["pool"].as_str().unwrap().rsplit('/').next() == Some(pool);
    images.filter(is_it).map(|image| image["id"].as_str().unwrap().to_owned()).next()
}

/// What the node refused: the word of the problem's type, and the sentence.
fn refusal(result: anyhow::Result<Value>) -> (String, String) {
    let error = result.expect_err("it should be refused");
    let problem = error.downcast::<Problem>().unwrap();
    let text = |key: &str| problem.body[key].as_str().unwrap().to_owned();
    (text("type").rsplit(':').next().unwrap().to_owned(), text("detail"))
}

/// A host at a node, as soon as it is let in.
fn log_in(cluster: &Cluster, node: usize) -> Disk {
    let path = cluster.paths().unwrap()[node].clone();
    let mut found = None;
    let is_in = || {
        found = Disk::open(&path).ok();
        found.is_some()
    };
    cluster.until("the host is logged in", is_in).unwrap();
    found.unwrap()
}

/// A host works while `meanwhile` goes on, and finds everything right afterwards.
fn under_work(cluster: &Cluster, seed: u64, meanwhile: impl FnOnce()) {
    let mut host = Host::new(cluster, seed, MIB).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
        std::thread::sleep(WORK);
        meanwhile();
        std::thread::sleep(WORK);
        is_over.store(true, Ordering::Relaxed);
        working.join().unwrap().unwrap();
    });
    assert!(host.writes() > 0, "nothing was acknowledged");
    host.check().unwrap();
}

/// M12: whichever node is asked, the volume goes where it shall, nothing is lost, and both nodes say the same of it.
#[test]
fn a_volume_is_handed_over_back_and_forth_while_a_host_writes() {
    let cluster = Cluster::start(MIB).unwrap();
    under_work(&cluster, 21, || {
        for round in 0..6 {
            let from = cluster.owner().unwrap();
            let asked = cluster.nodes[round % 2].admin();
            let begun = Instant::now();
            let moved = asked.post(&format!("/v1/volumes/{VOLUME}/owner"), &json!({})).unwrap();
            println!("round {round}: from {from}, answered after {:?}", begun.elapsed());
            assert_eq!(cluster.owner().unwrap(), 1 - from, "round {round}: {moved}");
            std::thread::sleep(WORK);
        }
    });
    for node in 0..2 {
        assert_eq!(sentence(&cluster, node), "yes: 2 images in-sync", "node {node}");
    }
    let owners = [0, 1].map(|node| shown(&cluster, node)["owner"].clone());
    assert_eq!(owners[0], owners[1]);
    let unknown = json!({ "node": "nobody" });
    let (kind, _) = refusal(cluster.nodes[0].admin().post(&format!("/v1/volumes/{VOLUME}/owner"), &unknown));
    assert_eq!(kind, "not-found");
}

/// A copy for a backup costs no window: the image stays as it was, and only what changed meanwhile comes over afterwards.
#[test]
fn a_detached_image_comes_back_with_only_what_changed() {
    let cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let other = 1 - owner;
    let pool = ["a", "b"][other];
    let mut host = log_in(&cluster, owner);
    for at in 0..(MIB << 20) / (1 << 20) {
        host.write(at * 2048, vec![7; 1 << 20]).unwrap();
    }
    let image = image_in(&shown(&cluster, owner), pool).unwrap();
    // Asked at the node that does not own, to see that it reaches the owner.
    let detached = cluster.nodes[other].admin().post(&format!("/v1/images/{image}/detach"), &json!({})).unwrap();
    assert_eq!(detached["state"], "detached");
    for node in 0..2 {
        assert!(sentence(&cluster, node).starts_with("NO: 1 image in-sync, the others are detached"), "{node}");
    }
    let last = image_in(&shown(&cluster, owner), ["a", "b"][owner]).unwrap();
    let (kind, what) = refusal(cluster.nodes[other].admin().post(&format!("/v1/images/{last}/detach"), &json!({})));
    assert_eq!((kind.as_str(), what.contains("last image in sync")), ("refused", true), "{what}");
    for at in 0..8 {
        host.write(at * 16384, vec![9; 4096]).unwrap();
    }
    let content =
        cluster.nodes[other].admin().get_bytes(&format!("/v1/images/{image}/content?offset=1048576")).unwrap();
    assert_eq!(content, vec![7; 1 << 20], "as it was when it was detached");
    let written = || {
        let disks = cluster.nodes[other].admin().get("/v1/disks").unwrap();
        let of_pool = |disk: &&Value| disk["pool"] == pool;
        let disk = disks["items"].as_array().unwrap().iter().find(of_pool).cloned().unwrap();
        disk["activity"]["written_bytes"].as_u64().unwrap()
    };
    let before = written();
    let back = json!({ "accept_loss": false });
    cluster.nodes[other].admin().post(&format!("/v1/images/{image}/reattach"), &back).unwrap();
    cluster.until_redundant(owner).unwrap();
    let came = written() - before;
    println!("{came} bytes were written to let the image catch up with 8 blocks");
    assert!(came < 4 << 20, "{came} bytes for 8 blocks of 4 KiB; the volume has {MIB} MiB");
    for node in 0..2 {
        assert_eq!(sentence(&cluster, node), "yes: 2 images in-sync", "node {node}");
    }
}

/// An image goes to another pool, and another one is added and removed, while a host writes.
#[test]
fn images_move_and_come_and_go_while_a_host_writes() {
    let cluster = Cluster::start(MIB).unwrap();
    for (node, pool) in [(0, "c"), (1, "d")] {
        cluster.nodes[node].create_pool(pool, 4 * MIB + 192).unwrap();
    }
    let until = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        cluster.until(what, || is_so(&shown(&cluster, 0)) && is_so(&shown(&cluster, 1))).unwrap();
    };
    let in_sync = |count: usize| {
        move |volume: &Value| {
            let images = volume["images"].as_array().unwrap();
            images.len() == count && images.iter().all(|image| image["state"] == "in-sync")
        }
    };
    under_work(&cluster, 22, || {
        let admin = cluster.nodes[0].admin();
        // The owner's own image and the other one, both asked for at one node.
        for (from, to) in [("a", "one/c"), ("b", "other/d")] {
            let image = image_in(&shown(&cluster, 0), from).unwrap();
            let new = admin.post(&format!("/v1/images/{image}/move"), &json!({ "pool": to })).unwrap();
            assert_eq!(new["replaces"], image.as_str());
            let pool = to.rsplit('/').next().unwrap();
            let has_moved = |volume: &Value| image_in(volume, from).is_none() && image_in(volume, pool).is_some();
            until("the image has moved", &|volume| has_moved(volume) && in_sync(2)(volume));
        }
        let added = admin.post("/v1/images", &json!({ "volume": VOLUME, "pool": "other/b" })).unwrap();
        until("the new image is in sync", &in_sync(3));
        let again = admin.post("/v1/images", &json!({ "volume": VOLUME, "pool": "other/b" }));
        assert_eq!(refusal(again).0, "refused", "there is one in that pool");
        admin.delete(&format!("/v1/images/{}", added["id"].as_str().unwrap())).unwrap();
        until("it is gone again", &in_sync(2));
        let left = image_in(&shown(&cluster, 0), "d").unwrap();
        assert_eq!(refusal(admin.delete(&format!("/v1/images/{left}"))).0, "refused", "it would not be redundant");
    });
    let pools = cluster.nodes[0].admin().get("/v1/pools").unwrap();
    let images = |name: &str| {
        let pools = pools["items"].as_array().unwrap();
        pools.iter().find(|pool| pool["name"] == name).map(|pool| pool["images"].as_u64().unwrap())
    };
    assert_eq!(["a", "b", "c", "d"].map(images), [Some(0), Some(0), Some(1), Some(1)], "deleted where they were");
}

/// M10: an administrator accepts the loss after he was told it, and what only the other image has is named when it is back.
#[test]
fn a_forced_promotion_says_what_is_lost_before_and_after() {
    let mut cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let other = 1 - owner;
    cluster.nodes[other].kill().unwrap();
    {
        let mut host = log_in(&cluster, owner);
        host.write(2048, vec![9; 64 << 10]).unwrap();
        host.flush().unwrap();
    }
    cluster.nodes[owner].kill().unwrap();
    cluster.nodes[other].start().unwrap();
    let admin = cluster.nodes[other].admin();
    let image = image_in(&shown(&cluster, other), ["a", "b"][other]).unwrap();
    let promote = |accept: bool| admin.post(&format!("/v1/images/{image}/promote"), &json!({ "accept_loss": accept }));
    let (kind, what) = refusal(promote(false));
    assert_eq!((kind.as_str(), what.contains("acknowledged writes are missing")), ("refused", true), "{what}");
    cluster.until("it is promoted", || promote(true).is_ok()).unwrap();
    let path = cluster.paths().unwrap()[other].clone();
    cluster.until("it is served", || Disk::open(&path).is_ok_and(|mut disk| disk.read(2048, 8).is_ok())).unwrap();
    cluster.nodes[owner].start().unwrap();
    let left = image_in(&shown(&cluster, other), ["a", "b"][owner]).unwrap();
    let mut loss = Value::Null;
    cluster
        .until("the loss is known", || {
            loss = admin.get(&format!("/v1/images/{left}/loss")).unwrap_or_default();
            loss["bytes_max"].is_u64()
        })
        .unwrap();
    let ranges = json!([{ "offset": 1 << 20, "bytes": 64 << 10 }]);
    assert_eq!((&loss["ranges"], &loss["bytes_max"], &loss["is_exact"]), (&ranges, &json!(64 << 10), &json!(true)));
    let back = |accept: bool| admin.post(&format!("/v1/images/{left}/reattach"), &json!({ "accept_loss": accept }));
    assert_eq!(refusal(back(false)).0, "refused", "what it alone has would be lost");
    back(true).unwrap();
    cluster.until_redundant(other).unwrap();
}

/// A name is one volume's, also when two nodes make it at once.
#[test]
fn two_nodes_make_a_volume_of_one_name_at_once_and_one_of_them_does() {
    let cluster = Cluster::start_without_volume(Shape::pools(512)).unwrap();
    cluster
        .until("both know each other's pools", || {
            (0..2).all(|node| {
                let pools = cluster.nodes[node].admin().get("/v1/pools").unwrap();
                pools["items"].as_array().unwrap().len() == 2
            })
        })
        .unwrap();
    for round in 0..4 {
        let request = json!({ "name": format!("n{round}"), "size_bytes": 1 << 20 });
        let made = std::thread::scope(|scope| {
            let make = |node: usize| cluster.nodes[node].admin().post("/v1/volumes", &request);
            let (one, two) = (scope.spawn(move || make(0)), scope.spawn(move || make(1)));
            [one.join().unwrap(), two.join().unwrap()]
        });
        assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "round {round}: {made:?}");
        let refused = made.into_iter().find(|made| made.is_err()).unwrap();
        assert_eq!(refusal(refused).0, "exists", "round {round}");
    }
}

/// Design section 7: the preferred owner has the volume back by itself when it has been well for as long as it shall be.
#[test]
fn a_preferred_owner_gets_the_volume_back_after_a_failover() {
    let mut cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let name = shown(&cluster, owner)["owner"].clone();
    let wish = json!({ "node": name, "automatic_after_seconds": 1 });
    let path = format!("/v1/volumes/{VOLUME}/preferred-owner");
    let wished = cluster.nodes[1 - owner].admin().put(&path, &wish).unwrap();
    assert_eq!(wished["preferred_owner"], wish);
    cluster.nodes[owner].kill().unwrap();
    cluster.until("the other one follows", || cluster.owner().unwrap() == 1 - owner).unwrap();
    cluster.nodes[owner].start().unwrap();
    cluster.until_redundant(1 - owner).unwrap();
    cluster.until("it has the volume back", || cluster.owner().unwrap() == owner).unwrap();
}

/// A node that hangs holds up nobody who asks another one, and is shown as what it is.
#[test]
fn a_node_that_hangs_is_shown_within_seconds() {
    let cluster = Cluster::start(MIB).unwrap();
    let owner = cluster.owner().unwrap();
    let pid = Pid::from_raw(cluster.process_id(owner).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let begun = Instant::now();
    let told = sentence(&cluster, 1 - owner);
    println!("{told:?} after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(told.starts_with("not known: ") || told.starts_with("NO: "), "{told}");
    let is_alone = || sentence(&cluster, 1 - owner).starts_with("NO: 1 of 2 images in-sync");
    let seen = cluster.until("the other one says that it is alone", is_alone);
    kill_process(pid, Signal::CONT).unwrap();
    seen.unwrap();
    let nodes = cluster.nodes[1 - owner].admin().get("/v1/nodes").unwrap();
    assert_eq!(nodes["items"].as_array().unwrap().len(), 2);
    cluster.until_redundant(1 - owner).unwrap();
}

/// Every step of a move is in the record: whoever is killed meanwhile, it comes to its end, and nothing is lost.
#[test]
fn a_move_comes_to_its_end_whoever_is_killed_meanwhile() {
    let mut cluster = Cluster::start(MIB).unwrap();
    for (node, pool) in [(0, "c"), (1, "d")] {
        cluster.nodes[node].create_pool(pool, 4 * MIB + 192).unwrap();
    }
    let mut host = Host::new(&cluster, 23, MIB).unwrap();
    // Back and forth between the pools of a node; the one that is killed has the image, or the other one does.
    for (round, (node, from, to)) in
        [(0, "a", "c"), (1, "b", "d"), (0, "c", "a"), (1, "d", "b")].into_iter().enumerate()
    {
        let victim = (round / 2) ^ node;
        let image = image_in(&shown(&cluster, node), from).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
            let name = ["one", "other"][node];
            let to_pool = json!({ "pool": format!("{name}/{to}") });
            let path = format!("/v1/images/{image}/move");
            cluster.until("it is begun", || cluster.nodes[1 - victim].admin().post(&path, &to_pool).is_ok()).unwrap();
            std::thread::sleep(Duration::from_millis(40 * round as u64));
            cluster.nodes[victim].kill().unwrap();
            std::thread::sleep(WORK);
            cluster.nodes[victim].start().unwrap();
            let has_moved = |volume: Value| {
                let images = volume["images"].as_array().unwrap().clone();
                let is_well = images.len() == 2 && images.iter().all(|image| image["state"] == "in-sync");
                is_well && image_in(&volume, from).is_none() && image_in(&volume, to).is_some()
            };
            let get = |node: usize| cluster.nodes[node].admin().get(&format!("/v1/volumes/{VOLUME}"));
            let both = || (0..2).all(|node| get(node).is_ok_and(has_moved));
            cluster.until("the image has moved", both).unwrap();
            is_over.store(true, Ordering::Relaxed);
            working.join().unwrap().unwrap();
        });
        host.check().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
    let images = cluster.each_image().unwrap();
    assert!(images[0] == images[1], "the images differ");
}
