//! `dyad quickstart` as the README promises it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use dyad_bench::disk::Disk;
use dyad_bench::initiator::{Options, Session};
use dyad_e2e::process::finish;
use dyad_e2e::{Port, Running, lab, tools};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(40);

struct Quickstart {
    process: Running,
}

impl Quickstart {
    /// Starts it and waits for the line with the portal.
    fn start(dir: &TempDir, port: u16) -> Self {
        Self::start_with(dir, port, &[])
    }

    fn start_with(dir: &TempDir, port: u16, more: &[&str]) -> Self {
        let data = dir.path().join("dyad-data");
        let (data, port) = (data.to_string_lossy().into_owned(), port.to_string());
        let args = [&["quickstart", "--dir", &data, "--port", &port][..], more].concat();
        let mut process = Running::start("quickstart", lab::binary().unwrap(), &args, dir.path()).unwrap();
        process
            .until("the lines to paste are printed", START, |it| it.output().contains("iscsi-perf").then_some(()))
            .unwrap();
        Self { process }
    }

    fn url(&self) -> String {
        let output = self.process.output();
        let begin = output.rfind("iscsi://").expect("an iscsi:// URL among the lines to paste");
        output[begin..].split_whitespace().next().unwrap().trim_matches(['\'', '"']).to_owned()
    }

    fn options(&self) -> Options {
        let url = self.url();
        let (portal, rest) = url.trim_start_matches("iscsi://").split_once('/').unwrap();
        let portal: SocketAddr = portal.parse().unwrap();
        Options::new(portal, rest.rsplit_once('/').unwrap().0)
    }

    /// The process that the printed line with this comment kills.
    fn kills(&self, whom: &str) -> Pid {
        let output = self.process.output();
        let line =
            output.lines().find(|line| line.trim_end().ends_with(&format!("# {whom}"))).expect("a line that kills");
        Pid::from_raw(line.split_whitespace().nth(2).unwrap().parse().unwrap()).unwrap()
    }

    /// Writes as a host that comes again does.
    fn write(&self, options: &[Options], value: u8) {
        let deadline = Instant::now() + START;
        let write =
            || options.iter().any(|one| Disk::open(one).is_ok_and(|mut disk| disk.write(0, vec![value; 4096]).is_ok()));
        while !write() {
            assert!(Instant::now() < deadline, "no write in time\n{}", self.process.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn interrupt(self) {
        let status = self.process.stop_by(Signal::INT, STOP).unwrap();
        assert!(status.success(), "Ctrl-C ended it with {status}");
    }
}

#[test]
fn it_serves_a_mirrored_gibibyte_and_resumes_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let first = Quickstart::start(&dir, port.number());
    let output = first.process.output();
    for wanted in ["iscsiadm", "qemu-img", "iscsi-perf", &port.number().to_string()] {
        assert!(output.contains(wanted), "{wanted} is missing in:\n{output}");
    }
    let mut disk = Disk::open(&first.options()).unwrap();
    assert_eq!(disk.capacity().bytes(), 1 << 30);
    disk.write(1000, vec![42; 64 * 1024]).unwrap();
    disk.logout().unwrap();
    if tools::has(&["qemu-img"]) {
        finish("qemu-img", &["info", "--image-opts", &image_opts(&first)], STOP)
            .unwrap()
            .expect_success("info")
            .unwrap();
    }
    first.interrupt();

    let second = Quickstart::start(&dir, port.number());
    let mut disk = Disk::open(&second.options()).unwrap();
    assert_eq!(disk.read(1000, 128).unwrap(), vec![42; 64 * 1024]);
    disk.logout().unwrap();
    second.interrupt();
}

fn image_opts(quickstart: &Quickstart) -> String {
    let options = quickstart.options();
    let target = options.target.unwrap();
    format!("driver=iscsi,transport=tcp,portal={},target={target},lun=0", options.portal)
}

#[test]
fn a_port_in_use_is_said_and_the_next_free_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let taken = TcpListener::bind(port.address()).unwrap();
    let quickstart = Quickstart::start(&dir, port.number());
    let options = quickstart.options();
    assert_ne!(options.portal.port(), port.number());
    assert!(quickstart.process.output().contains(&format!("{}", port.number())), "{}", quickstart.process.output());
    Session::login(&options).unwrap().logout().unwrap();
    drop(taken);
    quickstart.interrupt();
}

#[test]
fn a_second_one_in_the_same_directory_and_a_foreign_directory_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let first = Quickstart::start(&dir, port.number());
    let data = dir.path().join("dyad-data");
    let binary = lab::binary().unwrap().to_string_lossy().into_owned();
    let second = finish(&binary, &["quickstart", "--dir", &*data.to_string_lossy()], START).unwrap();
    assert!(!second.is_success() && second.output.contains("running"), "{}", second.output);
    first.interrupt();

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::File::create(foreign.join("letters.txt")).unwrap().write_all(b"dear diary").unwrap();
    let refused = finish(&binary, &["quickstart", "--dir", &*foreign.to_string_lossy()], START).unwrap();
    assert!(!refused.is_success() && !refused.output.is_empty(), "{}", refused.output);
    assert_eq!(std::fs::read(foreign.join("letters.txt")).unwrap(), b"dear diary");
}

/// Whatever is killed alone, hosts go on: a member of the config store, then a node that the others can take out without it.
fn whatever_is_killed(more: &[&str], member: &str) {
    let dir = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let quickstart = Quickstart::start_with(&dir, port.number(), more);
    let first = quickstart.options();
    // The other node's portal is the next free port that was printed.
    let output = quickstart.process.output();
    let portals =
        output.lines().filter_map(|line| line.split_once("portal  ").map(|(_, at)| at.trim().parse().unwrap()));
    let target = first.target.clone().unwrap();
    let all: Vec<Options> = portals.map(|portal: SocketAddr| Options::new(portal, &target)).collect();
    assert!(all.len() >= 2, "{output}");
    quickstart.write(&all, 1);
    kill_process(quickstart.kills(member), Signal::KILL).unwrap();
    quickstart.write(&all, 2);
    if member != "arbiter" {
        kill_process(quickstart.kills("node one"), Signal::KILL).unwrap();
        quickstart.write(&all[1..], 3);
        assert_eq!(Disk::open(&all[1]).unwrap().read(0, 8).unwrap(), vec![3; 4096]);
    }
    quickstart.interrupt();
}

#[test]
fn the_arbiter_is_killed_and_hosts_go_on() {
    whatever_is_killed(&[], "arbiter");
}

/// Issue 5: nodes share three members of etcd; one of them is killed, then a node.
#[test]
fn a_member_of_etcd_is_killed_and_then_a_node() {
    if tools::has(&["etcd"]) {
        whatever_is_killed(&["--nodes", "3", "--etcd"], "etcd member-1");
    }
}
