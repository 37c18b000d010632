//! Who may come in, how much, and where: libiscsi's tools and the command line against the real binary.

use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{LoginError, Options, Session, SessionError};
use dyad_e2e::cluster::Cluster;
use dyad_e2e::lab::{self, Lab, Place};
use dyad_e2e::process::finish;
use dyad_e2e::{Target as _, Volume, tools};

const SHORT: Duration = Duration::from_secs(30);
/// The name that libiscsi's tools are told to use.
const HOST: &str = "iqn.2004-10.com.example:host";

/// The program, told where the node is.
fn dyad(lab: &Lab, args: &[&str]) -> Output {
    let mut command = Command::new(lab::binary().unwrap());
    command.env("DYAD_SOCKET", lab.path("admin.sock")).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn told(lab: &Lab, args: &[&str]) -> String {
    let output = dyad(lab, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(lab: &Lab, args: &[&str]) -> String {
    let output = dyad(lab, args);
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_command_line_says_who_may_and_how_much() {
    let lab = Lab::with_pools(&["a"], 256).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 16, &["a"])).unwrap();
    assert_eq!(told(&lab, &["volume", "access", "v", "list"]), "HOST  RIGHT\nall   read-write\n");
    assert!(refused(&lab, &["volume", "access", "v", "deny", HOST]).contains("open to every host"));
    let allowed = told(&lab, &["volume", "access", "v", "allow", HOST, "--read-only"]);
    assert_eq!(allowed, format!("volume v may be used by: {HOST} (read-only)\n"));
    let options = Options { initiator: HOST.into(), ..unit.options() };
    let mut host = Disk::open(&options).unwrap();
    let ended = host.write(0, vec![1; 512]);
    assert!(matches!(ended, Err(DiskError::Status { sense: Some((7, 0x27, 0)), .. })), "{ended:?}");
    assert!(Disk::open(&unit.options()).is_err(), "nobody else may");
    let everybody = told(&lab, &["volume", "access", "v", "allow", "all"]);
    assert_eq!(everybody, "volume v may be used by: all\n");
    Disk::open(&unit.options()).unwrap().write(0, vec![1; 512]).unwrap();
    assert!(refused(&lab, &["volume", "access", "v", "allow"]).contains("<IQN>"));
    assert!(refused(&lab, &["volume", "access", "v", "allow", "host"]).contains("initiator name"));
    let limited = told(&lab, &["volume", "qos", "v", "--iops", "500", "--bandwidth", "10MiB", "--burst", "2"]);
    assert_eq!(limited, "limits of volume v: 500 commands/s, 10 MiB/s, what 2 s did not use is saved up\n");
    assert!(told(&lab, &["volume", "qos", "v", "--bandwidth", "0"]).contains(": 500 commands/s, what"));
    assert!(told(&lab, &["volume", "show", "v"]).contains("500 commands/s"));
    assert!(refused(&lab, &["volume", "qos", "v", "--iops", "3"]).contains("too few"));
    assert_eq!(told(&lab, &["volume", "qos", "v", "--iops", "0"]), "limits of volume v: none\n");
    assert!(refused(&lab, &["volume", "access", "v", "list", HOST]).contains("nothing else"));
}

/// A limited volume stays usable by a real host, and what the record says survives the process.
#[test]
fn limits_and_rights_survive_a_restart() {
    let mut lab = Lab::with_pools(&["a"], 256).unwrap();
    lab.create_volume(&Volume::new("v", 16, &["a"])).unwrap();
    told(&lab, &["volume", "qos", "v", "--iops", "5000"]);
    told(&lab, &["volume", "access", "v", "allow", HOST]);
    lab.kill().unwrap();
    lab.start().unwrap();
    let shown = told(&lab, &["volume", "show", "v"]);
    assert!(shown.contains("5000 commands/s") && shown.contains(HOST), "{shown}");
    if tools::has(&["iscsi-inq"]) {
        let url = lab.unit("v").unwrap().url();
        finish("iscsi-inq", &["-i", HOST, &url], SHORT).unwrap().expect_success("the host that may").unwrap();
        assert!(!finish("iscsi-inq", &["-i", "iqn.2004-10.com.example:other", &url], SHORT).unwrap().is_success());
    }
}

#[test]
fn a_portal_of_ipv6_serves_real_hosts() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return; // a machine without IPv6
    }
    let mut place = Place::loopback().unwrap();
    place.portal = SocketAddr::from((Ipv6Addr::LOCALHOST, place.portal.port()));
    let mut lab = Lab::at(tempfile::tempdir().unwrap(), place, "").unwrap();
    lab.start().unwrap();
    lab.create_pool("a", 256).unwrap();
    let unit = lab.create_volume(&Volume::new("v", 16, &["a"])).unwrap();
    assert!(unit.url().contains("[::1]"), "{}", unit.url());
    let mut host = Disk::open(&unit.options()).unwrap();
    host.write(0, vec![6; 4096]).unwrap();
    assert_eq!(host.read(0, 8).unwrap(), vec![6; 4096]);
    if tools::has(&["iscsi-ls", "iscsi-inq"]) {
        let portal = format!("iscsi://[::1]:{}", lab.portal().port());
        let listed = finish("iscsi-ls", &[&portal], SHORT).unwrap().expect_success("discovery").unwrap();
        assert!(listed.output.contains(&format!("[::1]:{}", lab.portal().port())), "{}", listed.output);
        finish("iscsi-inq", &[&unit.url()], SHORT).unwrap().expect_success("over IPv6").unwrap();
    }
}

/// libiscsi follows the redirection of a node that is drained by itself.
#[test]
fn a_real_host_follows_where_a_drained_node_sends_it() {
    let cluster = Cluster::start(16).unwrap();
    let name = |node: usize| {
        let status = cluster.nodes[node].admin().get("/v1/status").unwrap();
        status["node"]["name"].as_str().unwrap().to_owned()
    };
    told(&cluster.nodes[1], &["node", "drain", &name(0)]);
    let paths = cluster.paths().unwrap();
    let is_sent_on = || {
        let moved = Session::login(&paths[0]);
        matches!(moved, Err(SessionError::Login(LoginError::Moved { permanently: false, address }))
            if address == paths[1].portal.to_string())
    };
    cluster.until("the drained node sends hosts on", is_sent_on).unwrap();
    if tools::has(&["iscsi-inq"]) {
        let url = cluster.nodes[0].unit("v").unwrap().url();
        finish("iscsi-inq", &[&url], SHORT).unwrap().expect_success("by way of the drained node").unwrap();
    }
    told(&cluster.nodes[1], &["node", "drain", &name(0), "--undo"]);
    cluster.until("it serves again", || Session::login(&paths[0]).is_ok()).unwrap();
}
