//! Two real nodes and an arbiter: whichever node is killed, what was acknowledged is there, and both images are equal
//! after the other has caught up (A1, M8, M9, M11, M13 to M16).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dyad_e2e::cluster::{Cluster, Host};

const MIB: u64 = 64;
/// How long the host works before each kill, and after it at the node that is left.
const WORK: Duration = Duration::from_millis(1500);

#[test]
fn whichever_node_is_killed_nothing_acknowledged_is_lost_and_the_images_are_equal() {
    let rounds: usize = std::env::var("DYAD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let mut cluster = Cluster::start(MIB).unwrap();
    let mut host = Host::new(&cluster, 11, MIB).unwrap();
    for round in 0..rounds {
        let victim = round % 2;
        let (is_over, before) = (AtomicBool::new(false), host.writes());
        std::thread::scope(|scope| {
            let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
            std::thread::sleep(WORK);
            cluster.nodes[victim].kill().unwrap();
            std::thread::sleep(WORK);
            cluster.nodes[victim].start().unwrap();
            cluster.until_redundant(1 - victim).unwrap();
            is_over.store(true, Ordering::Relaxed);
            working.join().unwrap().unwrap();
        });
        assert!(host.writes() > before, "round {round}: nothing was acknowledged");
        host.check().unwrap_or_else(|error| panic!("round {round}: {error:#}"));
    }
    println!("{} writes, {rounds} kills, longest spell {:?}", host.writes(), host.longest_spell);
    let images = cluster.each_image().unwrap();
    let blocks = images[0].chunks(4096).zip(images[1].chunks(4096));
    assert_eq!(blocks.enumerate().find(|(_, (one, other))| one != other).map(|(block, _)| block), None);
    assert_eq!(images[0].len() as u64, MIB << 20);
}

/// M12: a node that stops in good order loses nothing, and the host goes on at the other.
#[test]
fn a_node_that_is_stopped_while_a_host_writes_is_followed_by_the_other() {
    let mut cluster = Cluster::start(MIB).unwrap();
    let mut host = Host::new(&cluster, 12, MIB).unwrap();
    for victim in [0, 1] {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| host.work(|| is_over.load(Ordering::Relaxed)));
            std::thread::sleep(WORK);
            let begun = Instant::now();
            cluster.nodes[victim].stop().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            std::thread::sleep(WORK);
            cluster.nodes[victim].start().unwrap();
            cluster.until_redundant(1 - victim).unwrap();
            is_over.store(true, Ordering::Relaxed);
            working.join().unwrap().unwrap();
        });
        host.check().unwrap();
    }
}
