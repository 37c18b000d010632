//! Ports of this machine that stay ours until the process they are for listens on them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::Failure;
use crate::table;

/// How many ports are tried from the wanted one on.
const PORTS_MAX: u16 = 100;

/// A port of 127.0.0.1, reserved for as long as this lives.
///
/// It is bound, and never listened on. With SO_REUSEADDR on both sides Linux lets another socket bind and listen there, as
/// every server does, but gives the port neither to outgoing connections nor to those who want any. (A port that is only
/// tried and let go again is taken by such a connection now and then.)
pub struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// The wanted one, or the next that nobody listens on; for 0, any.
    pub fn find(wanted: u16) -> Result<Self, Failure> {
        let last = if wanted == 0 { 0 } else { wanted.saturating_add(PORTS_MAX - 1) };
        (wanted..=last).find_map(|number| Self::hold(number).ok()).ok_or_else(|| {
            let what = format!("no port of 127.0.0.1 from {wanted} to {last} can be listened on");
            Failure::failed(what, "name one that can with --port (ports below 1024 need root)")
        })
    }

    /// Exactly this one; for 0, any. Fails if somebody listens there.
    pub fn hold(number: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into())?;
        let bound = socket.local_addr()?.as_socket().map_or(number, |address| address.port());
        Ok(Self { number: bound, _held: socket })
    }

    /// Tells the user if it is not the one that was wanted.
    pub fn say_if_not(&self, wanted: u16) {
        if wanted != 0 && wanted != self.number {
            let number = self.number;
            table::print(&format!("Port {wanted} is taken by another program, so this node listens on {number}.\n"));
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with this port.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let found = Port::find(port).unwrap().number();
        assert!(found > port && found < port.saturating_add(PORTS_MAX), "{found}");
    }

    /// A node found its port taken by a connection that some other process had made since the port was tried.
    #[test]
    fn a_held_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let held = Port::find(0).unwrap();
        for _ in 0..2 {
            drop(TcpListener::bind(held.address()).unwrap());
        }
        let others: Vec<_> = (0..500).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        assert!(others.iter().all(|other| other.local_addr().unwrap().port() != held.number()));
    }
}
