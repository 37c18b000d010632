//! The handshake, on either side: blocking, within a time, no byte read beyond its last record.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use dyad_cluster::Name;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

use super::keys::{Key, Renewal};
use super::{PeerTls, Records, TlsError, server_name};

/// Bytes of a handshake in one direction: chains of certificates of a few KiB.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;
/// Header of a record.
const HEADER_BYTES: usize = 5;
/// For the other side to read why it was refused.
const LINGER: Duration = Duration::from_millis(500);
/// First byte of a Dyad frame that is not encrypted; no kind of TLS record.
const FRAME: u8 = b'D';

/// The dialing side's handshake with the node of this name; and whose certificate was shown.
pub(crate) fn connect(
    tls: &PeerTls,
    socket: &TcpStream,
    to: &Name,
    end: Instant,
) -> Result<(Records, CertificateDer<'static>), TlsError> {
    let made = UnbufferedClientConnection::new(tls.client.clone(), server_name(to)?);
    let mut connection = made.map_err(TlsError::Handshake)?;
    shake(&mut connection, socket, end)?;
    let shown = first(connection.peer_certificates())?;
    let (secrets, kernel) = connection.dangerous_into_kernel_connection().map_err(TlsError::Handshake)?;
    let records = Records::new(Key::new(secrets.tx)?, Key::new(secrets.rx)?, Renewal::Client(Box::new(kernel)));
    Ok((records, shown))
}

/// The accepting side's handshake; and whose certificate was shown.
pub(crate) fn accept(
    tls: &PeerTls,
    socket: &TcpStream,
    end: Instant,
) -> Result<(Records, CertificateDer<'static>), TlsError> {
    let mut connection = UnbufferedServerConnection::new(tls.server.clone()).map_err(TlsError::Handshake)?;
    shake(&mut connection, socket, end)?;
    let shown = first(connection.peer_certificates())?;
    let (secrets, kernel) = connection.dangerous_into_kernel_connection().map_err(TlsError::Handshake)?;
    let records = Records::new(Key::new(secrets.tx)?, Key::new(secrets.rx)?, Renewal::Server(Box::new(kernel)));
    Ok((records, shown))
}

fn first(shown: Option<&[CertificateDer<'_>]>) -> Result<CertificateDer<'static>, TlsError> {
    let first = shown.and_then(<[_]>::first).cloned();
    first.map(CertificateDer::into_owned).ok_or(TlsError::Handshake(rustls::Error::NoCertificatesPresented))
}

/// Either side of rustls.
trait Side {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn is_busy(&self) -> bool;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_busy(&self) -> bool {
        self.is_handshaking()
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_busy(&self) -> bool {
        self.is_handshaking()
    }
}

enum Step {
    Again,
    Wait,
    Failed(rustls::Error),
}

fn shake(side: &mut impl Side, socket: &TcpStream, end: Instant) -> Result<(), TlsError> {
    let (mut incoming, mut outgoing, mut read) = (Vec::new(), Vec::new(), 0);
    loop {
        let UnbufferedStatus { discard, state } = side.process(&mut incoming);
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut outgoing, |room| data.encode(room))?;
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                send(socket, &outgoing, end)?;
                outgoing.clear();
                data.done();
                Step::Again
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Step::Wait,
            Ok(_) => Step::Failed(rustls::Error::HandshakeNotComplete),
            Err(error) => Step::Failed(error),
        };
        incoming.drain(..discard);
        match step {
            Step::Again => {}
            Step::Wait if !side.is_busy() => return Ok(()),
            Step::Wait => {
                read += receive_record(socket, &mut incoming, end)?;
                if read > HANDSHAKE_BYTES_MAX {
                    return Err(TlsError::TooLong);
                }
            }
            Step::Failed(error) => {
                // So that the other side can say why, too.
                let _ = send_alert(side, &mut incoming, socket, end);
                return Err(TlsError::Handshake(error));
            }
        }
    }
}

/// Sends what rustls has left to say after a fault.
fn send_alert(side: &mut impl Side, incoming: &mut Vec<u8>, socket: &TcpStream, end: Instant) -> Result<(), TlsError> {
    let mut outgoing = Vec::new();
    // The buffer as it was left: rustls still refers to it.
    loop {
        let UnbufferedStatus { discard, state } = side.process(incoming);
        let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
        encode(&mut outgoing, |room| data.encode(room))?;
        incoming.drain(..discard);
    }
    send(socket, &outgoing, end)?;
    // What the other side still sends must not turn into a reset that eats the alert.
    socket.shutdown(Shutdown::Write)?;
    let mut rest = [0; 1024];
    for _ in 0..HANDSHAKE_BYTES_MAX / rest.len() {
        socket.set_read_timeout(Some(left(end)?.min(LINGER)))?;
        if (&mut &*socket).read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

fn encode(
    outgoing: &mut Vec<u8>,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    let mut room = 4096;
    loop {
        outgoing.resize(start + room, 0);
        match put(&mut outgoing[start..]) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(wanted)) if wanted.required_size <= HANDSHAKE_BYTES_MAX => {
                room = wanted.required_size;
            }
            Err(_) => return Err(TlsError::TooLong),
        }
    }
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn send(mut socket: &TcpStream, bytes: &[u8], end: Instant) -> Result<(), TlsError> {
    socket.set_write_timeout(Some(left(end)?))?;
    Ok(socket.write_all(bytes)?)
}

/// One whole record; what follows is not the handshake's.
fn receive_record(socket: &TcpStream, into: &mut Vec<u8>, end: Instant) -> Result<usize, TlsError> {
    let start = into.len();
    let mut want = HEADER_BYTES;
    let mut filled = 0;
    while filled < want {
        into.resize(start + want, 0);
        socket.set_read_timeout(Some(left(end)?))?;
        match (&mut &*socket).read(&mut into[start + filled..]) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if into[start] == FRAME {
            return Err(TlsError::Plain);
        }
        if filled >= HEADER_BYTES {
            want = HEADER_BYTES + usize::from(u16::from_be_bytes([into[start + 3], into[start + 4]]));
        }
    }
    Ok(want)
}
