//! The new machine's side.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dyad_cluster::Name;
use dyad_store::{ConfigError, NewKey, fingerprint, pinned};
use rustls::{ClientConnection, StreamOwned};

use super::talk::{self, Answer, Ask, StoreWay, VERSION};
use super::token::Token;
use crate::peers::tls::{TlsError, server_name};

/// An address that does not answer is given up after this, and the next one tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the whole talk.
const TALK_TIME: Duration = Duration::from_secs(10);

/// What the machine was given.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admitted {
    /// Its certificate, PEM.
    pub certificate: String,
    /// The certificate's private key, PEM, which never left this machine.
    pub key: String,
    /// The cluster's authority, PEM.
    pub authority: String,
    /// First part of every target name, alike on all nodes.
    pub target_prefix: String,
    /// The cluster's config store.
    pub store: StoreWay,
}

/// The machine was not let in. Nothing was changed here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No address of the token answers.
    #[error("node {node} cannot be reached at {address}")]
    Unreachable {
        /// The node that made the token.
        node: Name,
        /// Where it was looked for last.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answers, and says no.
    #[error("node {node} did not let this machine in: {reason}")]
    Refused {
        /// The node that made the token.
        node: Name,
        /// Why.
        reason: String,
    },
    /// Somebody else answers.
    #[error("what answers at {address} is not the node that made the token")]
    Impostor {
        /// Where.
        address: String,
    },
    /// Certificates cannot be made.
    #[error(transparent)]
    Certificates(#[from] ConfigError),
}

/// Shows the token to the node that made it, and gets a certificate for the name.
///
/// # Errors
/// [`JoinError`].
pub fn join(token: &Token, name: &Name) -> Result<Admitted, JoinError> {
    let key = NewKey::create()?;
    let mut last = None;
    for address in &token.addresses {
        match try_at(token, name, &key, address) {
            Err(error @ JoinError::Unreachable { .. }) => last = Some(error),
            other => return other,
        }
    }
    let source = io::Error::from(io::ErrorKind::AddrNotAvailable);
    Err(last.unwrap_or(JoinError::Unreachable { node: token.node.clone(), address: String::new(), source }))
}

fn try_at(token: &Token, name: &Name, key: &NewKey, address: &str) -> Result<Admitted, JoinError> {
    let unreachable = |source| JoinError::Unreachable { node: token.node.clone(), address: address.to_owned(), source };
    let impostor = || JoinError::Impostor { address: address.to_owned() };
    let mut socket = connect(address).map_err(unreachable)?;
    socket.write_all(&super::MAGIC).map_err(unreachable)?;
    let to = server_name(&token.node).map_err(|error: TlsError| unreachable(io::Error::other(error)))?;
    let connection = ClientConnection::new(Arc::new(pinned(token.authority)?), to);
    let mut connection = connection.map_err(|error| unreachable(io::Error::other(error)))?;
    while connection.is_handshaking() {
        match connection.complete_io(&mut socket) {
            Ok(_) => {}
            // The library's error is inside: whoever answers has not the authority of the token.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(impostor()),
            Err(error) => return Err(unreachable(error)),
        }
    }
    let mut stream = StreamOwned::new(connection, socket);
    let (name, public) = (name.to_string(), key.public().to_vec());
    talk::send(&mut stream, &Ask { version: VERSION, secret: token.secret, name, public }).map_err(unreachable)?;
    match talk::receive(&mut stream).map_err(unreachable)? {
        Answer::Refused(reason) => Err(JoinError::Refused { node: token.node.clone(), reason }),
        Answer::Admitted(welcome) => {
            if fingerprint(welcome.authority.as_bytes())? != token.authority {
                return Err(impostor());
            }
            let key = key.to_pem();
            let (certificate, authority) = (welcome.certificate, welcome.authority);
            let (target_prefix, store) = (welcome.target_prefix, welcome.store);
            Ok(Admitted { certificate, key, authority, target_prefix, store })
        }
    }
}

fn connect(address: &str) -> io::Result<talk::Timed> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(talk::Timed::new(socket, Instant::now() + TALK_TIME)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
