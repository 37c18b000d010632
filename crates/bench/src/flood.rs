//! Connections that begin a login and never end it.

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::initiator::Keys;
use crate::initiator::pdu::{Header, opcode, padding};

/// How far a half-open login goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// Connects and says nothing.
    Silent,
    /// Sends a part of a login request's header.
    PartOfHeader,
    /// Announces a data segment of 8 KiB and sends half of it.
    PartOfText,
    /// Enters the security stage and stops there.
    Security,
}

/// All depths, to be used in turn.
pub const DEPTHS: [Depth; 4] = [Depth::Silent, Depth::PartOfHeader, Depth::PartOfText, Depth::Security];

/// Time for one connection to come about; a target that drops half-open logins still accepts at once.
const CONNECT: Duration = Duration::from_secs(5);

/// The open connections; dropping it closes them.
#[derive(Debug)]
pub struct Flood {
    sockets: Vec<TcpStream>,
    refused: u32,
}

impl Flood {
    /// Opens `count` half-open logins. Those that the target refuses or closes are counted, not an error.
    pub fn open(portal: SocketAddr, count: u32, depths: &[Depth]) -> Result<Self, io::Error> {
        let mut flood = Self { sockets: Vec::new(), refused: 0 };
        for index in 0..count {
            match TcpStream::connect_timeout(&portal, CONNECT) {
                Ok(mut socket) => {
                    let bytes = bytes(depths[index as usize % depths.len()], index);
                    if socket.write_all(&bytes).is_err() {
                        flood.refused += 1;
                    }
                    flood.sockets.push(socket);
                }
                Err(error) if is_refusal(&error) => flood.refused += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(flood)
    }

    /// Connections that came about.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// True if none came about.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Connections that the target refused or closed at once.
    pub fn refused(&self) -> u32 {
        self.refused
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut)
}

fn bytes(depth: Depth, index: u32) -> Vec<u8> {
    let mut header = Header::new(opcode::LOGIN | opcode::IMMEDIATE, 0);
    header.set(8, &[0x80, 0x66]).set(10, &index.to_be_bytes());
    match depth {
        Depth::Silent => Vec::new(),
        Depth::PartOfHeader => header.0[..20].to_vec(),
        Depth::PartOfText => {
            header.set_data_len(8192);
            let mut bytes = header.0.to_vec();
            bytes.resize(bytes.len() + 4096, b'x');
            bytes
        }
        Depth::Security => {
            let mut keys = Keys::new();
            keys.push("InitiatorName", format!("iqn.2026-11.example:flood-{index}"));
            keys.push("SessionType", "Discovery").push("AuthMethod", "CHAP,None");
            let text = keys.emit();
            header.set_data_len(text.len());
            let mut bytes = header.0.to_vec();
            bytes.extend_from_slice(&text);
            bytes.resize(bytes.len() + padding(text.len()), 0);
            bytes
        }
    }
}
