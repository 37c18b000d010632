//! Listeners: where hosts come in, and how many may.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that the kernel keeps ready for us; it caps this by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections accepted from one listener per turn, so that a flood does not stop the sessions there are.
pub(crate) const ACCEPTS_PER_TURN: usize = 64;

/// An address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened on; is another iSCSI target running? Choose another address or stop that")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A socket that hosts connect to.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Listens on an address. The IPv6 wildcard takes IPv4 as well; where there is no IPv6, only that.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        match bind(address) {
            Ok(listener) => Ok(listener),
            Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() => {
                let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
                bind(address).map_err(|source| ListenError { address, source })
            }
            Err(source) => Err(ListenError { address, source }),
        }
    }

    /// The next connection: its socket, ready to use, and the host's address. `None`: no more now.
    pub(crate) fn accept(&self) -> Result<Option<(OwnedFd, SocketAddr)>, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            match rustix::net::acceptfrom_with(&self.socket, flags) {
                Ok((socket, peer)) => {
                    let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
                    // Small answers must not wait for each other.
                    let _ = sockopt::set_tcp_nodelay(&socket, true);
                    return Ok(Some((socket, canonical(peer))));
                }
                Err(Errno::AGAIN) => return Ok(None),
                // The host gave up meanwhile, or its path failed (accept(2), "Error handling").
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::NETDOWN
                    | Errno::PROTO
                    | Errno::HOSTDOWN
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH,
                ) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Listener { socket: socket.into(), address: bound })
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Our own address of a connection, as the host wrote it.
pub(crate) fn local_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(socket).local_addr().ok().and_then(|address| address.as_socket()).map(canonical)
}

/// An IPv4 address that came through an IPv6 socket is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
