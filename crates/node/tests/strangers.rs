//! Strangers at the address where nodes meet.
//!
//! What broke: while sixteen connections had not said who they are, every further one was closed, and one that says nothing
//! kept its place for five seconds. Whoever reached the address with a few connections a second kept the nodes apart after the
//! first hiccup of the link between them: takeovers and degraded volumes followed.

mod cast;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cast::pair::{Pair, free_port, wait_until};
use cast::{Ends, Stage};
use socket2::{Domain, Socket, Type};

const SILENT: u8 = 64;
/// How long one of a flood is looked at before the next: what is closed is replaced within milliseconds.
const GLANCE: Duration = Duration::from_millis(1);
/// A node may take longer to start than strangers have to say who they are.
const ATTEMPTS: usize = 5;

/// Two nodes, and a port that stays each one's.
struct Street {
    pair: Pair,
    _held: Vec<Socket>,
}

impl Street {
    fn new() -> Self {
        let held = RefCell::new(Vec::new());
        let pair = Pair::bare(|settings| {
            let (port, socket) = free_port();
            settings.peer.listen = Some(port);
            held.borrow_mut().push(socket);
        });
        Self { pair, _held: held.into_inner() }
    }

    /// The node that dials the other, which has the higher id, and that one.
    fn nodes(&mut self) -> (&mut Stage, &mut Stage) {
        let id = |stage: &Stage| stage.handle().node().unwrap().id;
        let Pair { one, other, .. } = &mut self.pair;
        if id(one) < id(other) { (one, other) } else { (other, one) }
    }
}

fn is_met(stage: &Stage) -> bool {
    let neighbours = stage.handle().status().unwrap().neighbours;
    matches!(&neighbours[..], [other] if other.is_connected)
}

/// A connection that says nothing, from an address of its own.
fn stranger(from: Ipv4Addr, door: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&door.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(GLANCE)).unwrap();
    socket
}

/// Whether the node keeps it.
fn is_kept(stranger: &TcpStream) -> bool {
    let seen = stranger.peek(&mut [0]);
    seen.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn sixty_four_silent_strangers_of_many_addresses_do_not_keep_a_neighbour_out() {
    let mut street = Street::new();
    let (dialing, accepting) = street.nodes();
    let door = accepting.settings.peer.listen.unwrap();
    // That the neighbour is in while the newest stranger is: it waited for none to lose its place by time.
    let was_in = (0..ATTEMPTS).any(|_| {
        dialing.stop();
        let silent: Vec<_> = (1..=SILENT).map(|at| stranger(Ipv4Addr::new(127, 0, 1, at), door)).collect();
        dialing.start();
        wait_until("the neighbour is in", || is_met(accepting));
        silent.last().is_some_and(is_kept)
    });
    assert!(was_in);
}

#[test]
fn a_flood_from_one_address_does_not_keep_a_neighbour_out() {
    let mut street = Street::new();
    let (dialing, accepting) = street.nodes();
    let door = accepting.settings.peer.listen.unwrap();
    dialing.stop();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        scope.spawn(|| {
            let come = || stranger(Ipv4Addr::new(127, 0, 0, 2), door);
            let mut silent: Vec<_> = (0..SILENT).map(|_| come()).collect();
            while !is_over.load(Ordering::Relaxed) {
                for gone in silent.iter_mut().filter(|stranger| !is_kept(stranger)) {
                    *gone = come();
                }
            }
        });
        dialing.start();
        wait_until("the neighbour is in", || is_met(accepting));
    });
}
