//! `dyad serve`, for real, as systemd sees it.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{Done, program, run, shm};
use crate::running::Running;

/// A directory with a configuration, a place for pools, and somebody who listens as systemd does.
struct Machine {
    dir: tempfile::TempDir,
    systemd: UnixDatagram,
    _shm: tempfile::TempDir,
}

impl Machine {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shm = shm();
        let path = dir.path().display();
        let text = format!(
            "node_name = \"left\"\ndata_dir = \"{path}/store\"\nbuffers = \"64 MiB\"\nshm_dir = {:?}\n\
             [iscsi]\nportals = [\"127.0.0.1:0\"]\n[api]\nsocket = \"{path}/dyad.sock\"\n{more}",
            shm.path()
        );
        fs::write(dir.path().join("dyad.toml"), text).unwrap();
        let systemd = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { dir, systemd, _shm: shm }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&self) -> Command {
        let mut command = program();
        command.env("NOTIFY_SOCKET", self.path("notify")).args(["serve", "--config"]).arg(self.path("dyad.toml"));
        command
    }

    /// Waits until systemd was told this.
    fn told(&self, words: &str) {
        let mut buf = [0; 4096];
        loop {
            let len = self.systemd.recv(&mut buf).unwrap_or_else(|error| panic!("never told {words}: {error}"));
            if String::from_utf8_lossy(&buf[..len]).contains(words) {
                return;
            }
        }
    }

    fn ask(&self, line: &str) -> Done {
        let mut command = program();
        command.arg("--socket").arg(self.path("dyad.sock")).args(line.split(' '));
        run(command)
    }

    fn tells(&self, line: &str) -> String {
        let done = self.ask(line);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{line}");
        done.out
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_node_is_ready_administrated_stopped_and_started_again() {
    let machine = Machine::new("");
    let node = Running::start(machine.serve());
    machine.told("READY=1");
    assert_eq!(mode(&machine.path("dyad.sock")), 0o660);
    assert_eq!(mode(&machine.path("store")), 0o700);

    let (a, b) = (machine.path("a.pool"), machine.path("b.pool"));
    machine.tells(&format!("pool create a --disk {} --size 256MiB", a.display()));
    machine.tells(&format!("pool create b --disk {} --size 256MiB", b.display()));
    assert_eq!(
        machine.tells("volume create vm 64MiB --pool a --pool b"),
        "volume vm is served as iqn.2026-11.san.dyad:vm\n"
    );
    machine.tells("status --check");
    assert!(machine.tells("node show").contains("left"));

    node.signal(Signal::TERM);
    machine.told("STOPPING=1");
    let (code, _, log) = node.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("ended in good order"), "{log}");

    let node = Running::start(machine.serve());
    machine.told("READY=1");
    assert!(machine.tells("status").contains("vm  64 MiB  yes: 2 images in-sync"), "{}", machine.tells("status"));
    machine.tells("volume delete vm --yes");
    machine.tells("pool delete a --yes");
    machine.tells("pool delete b --yes");
    node.signal(Signal::TERM);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn what_an_administrator_does_wrong_is_said_with_what_to_do() {
    let machine = Machine::new("");
    let node = Running::start(machine.serve());
    machine.told("READY=1");
    let a = machine.path("a.pool");
    let path = a.display();
    let refused = |line: &str, code: i32, words: &str| {
        let done = machine.ask(line);
        assert_eq!(done.code, code, "{line}: {}", done.err);
        assert!(done.err.contains(words), "{line}: {}", done.err);
        assert!(done.err.lines().count() == 2, "what and what to do: {}", done.err);
    };
    refused(&format!("pool create a --disk {path}"), 1, "does not exist");
    fs::write(&a, "precious").unwrap();
    refused(&format!("pool create a --disk {path}"), 1, "a.pool");
    assert_eq!(fs::read(&a).unwrap(), b"precious");
    fs::remove_file(&a).unwrap();
    machine.tells(&format!("pool create a --disk {path} --size 256MiB"));
    refused(&format!("pool create a --disk {path}x --size 256MiB"), 1, "already a pool `a`");
    refused(&format!("pool create b --disk {path}"), 1, "a.pool");
    refused("volume create vm 64MiB --pool a --pool none", 4, "no pool `none`");
    machine.tells("volume create vm 64MiB --pool a");
    refused("volume create vm 64MiB --pool a", 1, "already a volume `vm`");
    refused("pool delete a --yes", 1, "vm");
    refused("session delete 9", 4, "no session `9`");
    refused("volume delete none --yes", 4, "no volume `none`");
    node.signal(Signal::INT);
    assert_eq!(node.end().0, Some(0));
}

/// Whoever looks is told what to do, and it helps.
#[test]
fn reservations_that_cannot_be_read_are_told_and_forgotten() {
    let machine = Machine::new("");
    let node = Running::start(machine.serve());
    machine.told("READY=1");
    let pool = machine.path("a.pool");
    machine.tells(&format!("pool create a --disk {} --size 256MiB", pool.display()));
    machine.tells("volume create vm 64MiB --pool a");
    let refused = |line: &str, words: [&str; 2]| {
        let done = machine.ask(line);
        assert_eq!(done.code, 1, "{line}: {}{}", done.out, done.err);
        assert!(words.iter().all(|word| done.err.contains(word)), "{line}: {}", done.err);
    };
    refused("volume forget-reservations vm --force", ["of volume `vm` all registrations", "--yes-lose-reservations"]);
    let order = "volume forget-reservations vm --yes-lose-reservations";
    refused(order, ["can be read: no host is registered", "--force"]);
    let done = "nobody has registered or reserved volume vm any more\n";
    assert_eq!(machine.tells(&format!("{order} --force")), done);
    assert!(machine.tells("volume show vm").contains(" serving\n"));
    node.signal(Signal::TERM);
    assert_eq!(node.end().0, Some(0));

    let bytes = fs::read(&pool).unwrap();
    let homes = (0..bytes.len()).step_by(4096).filter(|&at| bytes[at..].starts_with(b"tatSdayD"));
    let file = fs::OpenOptions::new().write(true).open(&pool).unwrap();
    let rotted = homes.map(|at| file.write_all_at(&[!bytes[at + 99]], at as u64 + 99).unwrap()).count();
    assert_eq!(rotted, 1, "there was one change");
    let _node = Running::start(machine.serve());
    machine.told("READY=1");
    let told = "UNAVAILABLE: no image in sync can read its reservations, so hosts get errors; `dyad volume \
                forget-reservations vm` lets them begin anew";
    let begun = Instant::now();
    while !machine.tells("volume show vm").contains(told) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", machine.tells("volume show vm"));
    }
    assert_eq!(machine.ask("status --check").code, 5);
    assert_eq!(machine.tells(order), done);
    while !machine.tells("volume show vm").contains(" serving\n") {
        assert!(begun.elapsed() < Duration::from_secs(40), "{}", machine.tells("volume show vm"));
    }
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let machine = Machine::new("colour = 1\n");
    let done = run(machine.serve());
    assert_eq!(done.code, 2);
    assert!(
        done.err.contains("nothing was started") && done.err.contains("dyad.toml:9:1: there is no key `api.colour`"),
        "{}",
        done.err
    );
    assert!(!machine.path("store").exists());
}

#[test]
fn a_second_node_in_the_same_place_is_refused() {
    let machine = Machine::new("");
    let node = Running::start(machine.serve());
    machine.told("READY=1");
    let done = run(machine.serve());
    assert_eq!(done.code, 1);
    assert!(done.err.contains("another node is running here"), "{}", done.err);

    // Another socket, but the same config store.
    let text = fs::read_to_string(machine.path("dyad.toml")).unwrap().replace("dyad.sock", "other.sock");
    fs::write(machine.path("dyad.toml"), text).unwrap();
    let done = run(machine.serve());
    assert_eq!(done.code, 1);
    assert!(done.err.contains("the node cannot start") && done.err.contains("store"), "{}", done.err);
    machine.tells("status");
    node.signal(Signal::TERM);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_portal_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let machine = Machine::new("");
    let text = fs::read_to_string(machine.path("dyad.toml")).unwrap().replace("127.0.0.1:0", &address.to_string());
    fs::write(machine.path("dyad.toml"), text).unwrap();
    let done = run(machine.serve());
    assert_eq!(done.code, 1);
    assert!(done.err.contains(&address.to_string()), "{}", done.err);
}

#[test]
fn json_lines_can_be_logged_and_the_watchdog_is_fed_while_the_node_answers() {
    let machine = Machine::new("[log]\nformat = \"json\"\n");
    let mut command = machine.serve();
    command.env("WATCHDOG_USEC", "400000");
    let node = Running::start(command);
    machine.told("READY=1");
    machine.told("WATCHDOG=1");
    node.signal(Signal::TERM);
    let (code, _, log) = node.end();
    assert_eq!(code, Some(0));
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
}
