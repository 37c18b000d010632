//! Addresses: where hosts are sent, and which they are told of.

mod cast;

use std::net::{Ipv6Addr, SocketAddr};

use cast::Stage;
use cast::pair::{Pair, wait_until};
use dyad_bench::disk::{Disk, DiskError};
use dyad_bench::initiator::{LoginError, Options, Session, SessionError};

/// Where a login is sent instead, and whether for ever.
fn moved(options: &Options) -> Option<(String, bool)> {
    match Session::login(options) {
        Err(SessionError::Login(LoginError::Moved { address, permanently })) => Some((address, permanently)),
        _ => None,
    }
}

fn shown(portal: SocketAddr) -> String {
    format!("{:?}", Session::login(&Options::discovery(portal)).unwrap().send_targets().unwrap())
}

/// Whether the node asked this host to log out, as far as it comes before the answer to a ping.
fn is_asked(host: &mut Disk) -> bool {
    host.session().ping(b"?").unwrap();
    host.session().logout_within().is_some()
}

/// RFC 7143 §11.13.5, 0101: new sessions go to the node that is not drained; those that are there go on for a while.
#[test]
fn a_drained_node_sends_hosts_to_another_one_and_takes_them_back() {
    let pair = Pair::new();
    let (one, other) = (pair.one.login("v"), pair.other.portal().to_string());
    let mut before = Disk::open(&one).unwrap();
    before.write(0, vec![1; 4096]).unwrap();
    wait_until("a drain", || pair.other.handle().drain_node("one", true).unwrap().owned.is_empty());
    let late = Options { session: 2, ..one.clone() };
    wait_until("the node hears of it", || moved(&late) == Some((other.clone(), false)));
    // A session that is there goes on, by way of the new owner; its commands may have to be sent again meanwhile.
    wait_until("a read", || match before.read(0, 8) {
        Err(DiskError::Status { .. }) => false,
        read => read.unwrap() == vec![1; 4096],
    });
    assert!(shown(one.portal).contains(":v"), "discovery goes on");
    let sent = Options { portal: other.parse().unwrap(), ..late.clone() };
    assert_eq!(Disk::open(&sent).unwrap().read(0, 8).unwrap(), vec![1; 4096]);
    // With both drained there is nowhere to go: the node takes the host itself.
    pair.other.handle().drain_node("other", true).unwrap();
    wait_until("nowhere to go", || Disk::open(&late).is_ok());
    pair.other.handle().drain_node("one", false).unwrap();
    wait_until("taken back", || moved(&sent) == Some((one.portal.to_string(), false)));
    assert!(Disk::open(&late).is_ok());
}

/// RFC 7143 §11.9.1: hosts that are there are asked to log out, and are sent on when they come back.
#[test]
fn a_drained_node_asks_its_hosts_to_leave() {
    let pair = Pair::new();
    let one = pair.one.login("v");
    let mut host = Disk::open(&one).unwrap();
    let mut other = Disk::open(&Options { session: 2, ..pair.other.login("v") }).unwrap();
    host.write(0, vec![1; 4096]).unwrap();
    assert!(!is_asked(&mut host));
    wait_until("a drain", || pair.other.handle().drain_node("one", true).unwrap().owned.is_empty());
    wait_until("it is asked", || is_asked(&mut host));
    assert_eq!(host.session().logout_within(), Some(30));
    // What it has to do first it may do.
    wait_until("a read", || host.read(0, 8).is_ok_and(|read| read == vec![1; 4096]));
    host.logout().unwrap();
    let there = pair.other.portal();
    assert_eq!(moved(&one), Some((there.to_string(), false)));
    let mut host = Disk::open(&Options { portal: there, ..one }).unwrap();
    assert_eq!(host.read(0, 8).unwrap(), vec![1; 4096]);
    for disk in [&mut host, &mut other] {
        assert!(!is_asked(disk), "that node serves");
    }
}

/// It may not reach the address that it is sent to: then the node that is drained is better than none.
#[test]
fn a_host_that_comes_back_again_and_again_is_taken() {
    let pair = Pair::new();
    let one = pair.one.login("v");
    let elsewhere = Some((pair.other.portal().to_string(), false));
    wait_until("a drain", || pair.other.handle().drain_node("one", true).unwrap().owned.is_empty());
    // Each its own initiator port, so that none of them is counted for another.
    let mut sessions = (100..).map(|session| Options { session, ..one.clone() });
    wait_until("the node hears of it", || moved(&sessions.next().unwrap()) == elsewhere);
    for _ in 0..2 {
        assert_eq!(moved(&one), elsewhere);
    }
    let mut host = Disk::open(&one).unwrap();
    assert_eq!(moved(&sessions.next().unwrap()), elsewhere, "another one is sent on");
    host.write(0, vec![1; 4096]).unwrap();
    assert!(!is_asked(&mut host), "it is left in peace");
    // In the next drain it may be tried again.
    pair.other.handle().drain_node("one", false).unwrap();
    wait_until("the node hears of the end", || Disk::open(&sessions.next().unwrap()).is_ok());
    pair.other.handle().drain_node("one", true).unwrap();
    wait_until("it is asked", || is_asked(&mut host));
}

/// With nowhere to go it would only lose its session.
#[test]
fn a_host_is_asked_to_leave_when_there_is_another_node_for_it() {
    let pair = Pair::new();
    let mut host = Disk::open(&pair.one.login("v")).unwrap();
    let drain = |stage: &Stage, name| drop(stage.handle().drain_node(name, true).unwrap());
    drain(&pair.other, "other");
    drain(&pair.one, "one");
    // The reactor hears of it before it is looked at for this.
    pair.one.handle().sessions().unwrap();
    assert!(!is_asked(&mut host));
    pair.one.handle().drain_node("other", false).unwrap();
    wait_until("it is asked", || is_asked(&mut host));
}

/// A host that is not let in is not told where else the volume is.
#[test]
fn who_may_not_come_in_is_not_sent_on() {
    let pair = Pair::new();
    let named = dyad_cluster::InitiatorName::new("iqn.2004-10.com.example:host").unwrap();
    let right = Some(dyad_cluster::Right::ReadWrite);
    pair.one.handle().change_access("v", dyad_cluster::Whom::Host(named.clone()), right).unwrap();
    pair.one.handle().drain_node("one", true).unwrap();
    let allowed = Options { initiator: named.as_str().to_owned(), ..pair.one.login("v") };
    wait_until("one that may is sent on", || moved(&allowed).is_some());
    let refused = Session::login(&pair.one.login("v"));
    assert!(matches!(refused, Err(SessionError::Login(LoginError::Refused { class: 2, detail: 2 }))));
}

/// RFC 7143 §13.8: IPv6 addresses stand in brackets; a host is told of all portals that it may be able to reach.
#[test]
fn a_node_has_portals_of_both_families() {
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if std::net::TcpListener::bind(six).is_err() {
        return; // a machine without IPv6
    }
    let stage = Stage::with(|settings| settings.iscsi.portals.push(six));
    stage.add_pool("a");
    stage.add_volume("v", &["a"]);
    let portals = stage.handle().node().unwrap().portals;
    let six = *portals.iter().find(|portal| portal.is_ipv6()).unwrap();
    let names = shown(six);
    assert!(names.contains(&format!("[::1]:{},", six.port())), "{names}");
    assert!(names.contains(&format!("127.0.0.1:{},", stage.portal().port())), "{names}");
    assert!(shown(stage.portal()).contains("[::1]"), "the other way round");
    let mut host = Disk::open(&Options { portal: six, ..stage.login("v") }).unwrap();
    host.write(0, vec![6; 4096]).unwrap();
    assert_eq!(host.read(0, 8).unwrap(), vec![6; 4096]);
}
