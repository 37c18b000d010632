//! What strangers and broken clients can do to an arbiter: nothing that nodes would notice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_cluster::{DiskRecord, PoolRecord, Record, Version};
use dyad_store::arbiter::{ArbiterConfig, ServeConfig, hostile};
use dyad_store::{ArbiterServer, ArbiterStore, LocalStore};
use dyad_units::DiskId;
use proptest::prelude::{any, proptest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::arbiter::{Arbiter, STORE};
use super::records::{eventually, pool, put, set};

/// More than an arbiter takes, by far.
const CROWD: usize = 1000;
/// As the arbiter's own bounds add up: 64 nodes' connections and twice 16 of strangers.
const CONNECTIONS_MAX: usize = 96;

/// Without TLS, so that bytes can be said to it.
struct Plain {
    server: ArbiterServer,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Plain {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Arc::new(LocalStore::open(&dir.path().join("config.redb"), || STORE).unwrap());
        let config = ServeConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], tls: None };
        let server = ArbiterServer::start(store, &config).unwrap();
        Self { address: server.addresses()[0], server, _dir: dir }
    }

    fn open(&self) -> ArbiterStore {
        let config = ArbiterConfig { addresses: vec![self.address], tls: None };
        ArbiterStore::open(&config, STORE, Version(0)).unwrap()
    }

    /// A connection that has said hello and reads nothing of what is answered.
    fn deaf(&self, request: &[u8]) -> TcpStream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let mut said = frame(b"dyadarb\0\x01\x01\0");
        said.extend(frame(request));
        socket.write_all(&said).unwrap();
        socket
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body].concat()
}

/// Descriptors for the crowd and both its ends.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = Some(maximum.map_or(8192, |maximum| maximum.min(8192)));
    setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum }).unwrap();
}

#[test]
fn a_thousand_silent_connections_keep_no_node_out() {
    allow_descriptors();
    let arbiter = Arbiter::new();
    let early = arbiter.open();
    put(&*early, &pool(1, "a"));
    let crowd: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(arbiter.address).unwrap()).collect();
    put(&*early, &pool(1, "b"));
    let late = arbiter.open();
    put(&*late, &pool(1, "c"));
    assert!(arbiter.connections() <= CONNECTIONS_MAX, "{} connections", arbiter.connections());
    drop(crowd);
    put(&*early, &pool(1, "d"));
}

/// Not the reader's fault alone: what it does not read must neither fill the arbiter's memory nor keep its place.
#[test]
fn clients_that_never_read_are_closed_and_harm_nobody() {
    let plain = Plain::new();
    let store = plain.open();
    // More than the kernel takes off a sender's hands.
    for id in 0..200 {
        let Record::Pool(record) = pool(id, "large") else { unreachable!() };
        let disk = DiskRecord { id: DiskId::from_bytes([1; 16]), path: "x".repeat(60_000) };
        set(&store, None, &Record::Pool(PoolRecord { disks: vec![disk], ..record })).unwrap();
    }
    // A list of all pools, and changes from the beginning on.
    let deaf = [plain.deaf(&[2, 3]), plain.deaf(&[4, 0]), plain.deaf(&[4, 1, 1])];
    let longest = (0..20).map(|round| {
        let start = Instant::now();
        put(&store, &pool(250, &format!("n-{round}")));
        start.elapsed()
    });
    assert!(longest.max().unwrap() < Duration::from_secs(2));
    // The node's two connections are left.
    eventually("the arbiter gives them up", || (plain.server.connections() <= 2).then_some(()));
    drop(deaf);
    put(&store, &pool(250, "after"));
}

#[test]
fn hostile_bytes_end_their_connection_and_nothing_else() {
    let plain = Plain::new();
    let store = plain.open();
    put(&store, &pool(1, "a"));
    let hello = frame(b"dyadarb\0\x01\x01\0");
    let greeted = |request: &[u8]| [hello.clone(), request.to_vec()].concat();
    let cases = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        vec![0; 4096],
        frame(b"dyadarb\0"),
        frame(&[0; 11]),
        greeted(&[0xff, 0xff, 0xff, 0x7f]),
        greeted(&frame(&[9])),
        greeted(&frame(&[])),
        greeted(&frame(&[3, 1, 2, 3])),
        // A set whose record says that it has 2^35 bytes.
        greeted(&frame(&[&[3][..], &[2; 17], &[0, 1, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat())),
        greeted(&frame(&[0, 0])),
    ];
    for case in cases {
        let mut socket = TcpStream::connect(plain.address).unwrap();
        let _ = socket.write_all(&case);
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 300, "{case:?} was answered with {} bytes", answer.len());
    }
    put(&store, &pool(1, "b"));
}

/// An arbiter keeps what it does not know for newer nodes, but a kind of its own it refuses.
#[test]
fn what_an_arbiter_does_not_know_is_refused_not_guessed() {
    let plain = Plain::new();
    let mut socket = TcpStream::connect(plain.address).unwrap();
    socket.write_all(&frame(b"dyadarb\0\x01\x01\0")).unwrap();
    let mut answer = |request: &[u8]| {
        socket.write_all(&frame(request)).unwrap();
        let mut len = [0; 4];
        socket.read_exact(&mut len).unwrap();
        let mut body = vec![0; u32::from_le_bytes(len) as usize];
        socket.read_exact(&mut body).unwrap();
        body
    };
    let foreign = [77; 17];
    assert_eq!(answer(&[0])[0], 0, "the welcome");
    for request in [[&[1][..], &foreign].concat(), [&[3][..], &foreign, &[0, 0]].concat(), vec![2, 77]] {
        // Each is read as the answer to the one before: first the ping's.
        answer(&request);
    }
    assert_eq!(answer(&[0])[0], 8, "refused");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_decoded_without_a_panic(bytes in any::<Vec<u8>>()) {
        hostile::decode_all(&bytes);
    }
}
