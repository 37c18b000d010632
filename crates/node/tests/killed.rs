//! A node that is killed in the middle of writes: everything acknowledged is there for the next one (A1, P6).

mod cast;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cast::Stage;
use dyad_bench::disk::Disk;
use dyad_bench::initiator::Options;
use dyad_bench::verify::{Mix, Writer};
use dyad_node::Node;
use dyad_node::settings::Settings;
use dyad_units::Period;

const DIR: &str = "DYAD_KILLED_DIR";
const SHM: &str = "DYAD_KILLED_SHM";

/// Not a test of its own: the process that is killed.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let (Ok(dir), Ok(shm)) = (std::env::var(DIR), std::env::var(SHM)) else { return };
    let mut settings =
        Settings { data_dir: Path::new(&dir).join("data"), shm_dir: Some(shm.into()), ..Settings::default() };
    settings.iscsi.portals = vec![([127, 0, 0, 1], 0).into()];
    let node = Node::start(settings).unwrap();
    node.handle().wait_until_running(Period::from_secs(30)).unwrap();
    println!("portal {}", node.handle().node().unwrap().portals[0]);
    node.wait().unwrap();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(stage: &Stage) -> (Killed, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(DIR, stage.dir.path())
        .env(SHM, stage.settings.shm_dir.as_ref().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let child = Killed(child);
    for line in lines {
        let line = line.unwrap();
        // The harness may have written before it on the same line.
        if let Some(at) = line.find("portal ") {
            return (child, line[at + 7..].trim().parse().unwrap());
        }
    }
    panic!("the child ended without a portal");
}

#[test]
fn everything_acknowledged_is_there_after_a_kill() {
    let mut stage = Stage::mirrored();
    let target = stage.handle().volume("v").unwrap().target;
    stage.stop();
    let sectors = (64 << 20) / 512;
    let mut writer = Writer::new(7, sectors, 512, 32, Mix::default());
    let rounds = std::env::var("DYAD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    for round in 0..rounds {
        let (child, portal) = start(&stage);
        let mut host = Disk::open(&Options::new(portal, &target)).unwrap();
        let report = writer.check(host.session()).unwrap();
        assert!(report.is_clean(), "round {round}: {report:?}");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100 + round * 37 % 300));
            drop(child);
        });
        let until = Instant::now() + Duration::from_secs(10);
        let ended = writer.run(host.session(), until);
        killer.join().unwrap();
        assert!(matches!(ended, Err(dyad_bench::verify::RunError::Session(_))), "{ended:?}");
    }
    assert!(writer.tally().writes > 100, "{:?}", writer.tally());
    println!("{:?}", writer.tally());
    stage.start();
    let volume = stage.handle().volume("v").unwrap();
    assert_eq!(volume.redundancy.in_sync, 2, "{:?}", volume.redundancy);
    let report = writer.check(stage.host("v").session()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(stage.handle().pools().unwrap().iter().all(|pool| pool.damaged == 0), "no checksum error");
    // Both images are equal: each alone gives the same.
    stage.stop();
    let (store, saved) = (stage.settings.data_dir.join("config.redb"), stage.dir.path().join("saved"));
    std::fs::copy(&store, &saved).unwrap();
    for away in ["a", "b"] {
        // Each time from the record that has both images in sync: without one the node takes it out.
        std::fs::copy(&saved, &store).unwrap();
        let hidden = stage.dir.path().join("hidden");
        std::fs::rename(stage.pool_path(away), &hidden).unwrap();
        stage.start();
        let report = writer.check(stage.host("v").session()).unwrap();
        assert!(report.is_clean(), "without {away}: {report:?}");
        stage.stop();
        std::fs::rename(&hidden, stage.pool_path(away)).unwrap();
    }
}
