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

/// RFC 7143 §11.13.5, 0101: new sessions go to the node that is not drained, those that are there stay.
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
