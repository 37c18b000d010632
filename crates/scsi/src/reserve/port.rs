//! Initiator ports, paths, and iSCSI TransportIDs (SPC-4 §7.6.4.5; RFC 7143 §4.2.7, §4.4.1).

use crate::cdb::be16;

/// Longest iSCSI name (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;
/// Between the name and the ISID of an initiator port's name (SPC-4 table 507).
const SEPARATOR: &str = ",i,0x";
/// Hexadecimal digits of an ISID.
const ISID_DIGITS: usize = 12;
/// ADDITIONAL LENGTH is at least 20 and a multiple of four (SPC-4 §7.6.4.5).
const ADDITIONAL_BYTES_MIN: usize = 20;
/// PROTOCOL IDENTIFIER of iSCSI.
const ISCSI: u8 = 0x05;
/// TPID FORMAT: the name of a device, or of one of its ports.
const OF_DEVICE: u8 = 0b00;
const OF_PORT: u8 = 0b01;
/// Four bytes of header, the longest name with its ISID, a zero, padded.
pub(crate) const TRANSPORT_ID_BYTES_MAX: usize =
    4 + (NAME_BYTES_MAX + SEPARATOR.len() + ISID_DIGITS + 1).next_multiple_of(4);

/// An initiator port: the iSCSI name of the host, in lower case, as names compare without regard to case, and the ISID
/// of the session (RFC 7143 §4.2.7.1, §10.5). The same after a new login, and at every node.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct InitiatorPort {
    name: Box<str>,
    isid: [u8; 6],
}

impl InitiatorPort {
    /// A port; none: the name is empty, too long, or has characters that no iSCSI name has.
    pub fn new(name: &str, isid: [u8; 6]) -> Option<Self> {
        let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains([',', '\0']);
        is_name
            .then(|| Self { name: name.to_lowercase().into(), isid })
            .filter(|port| port.name.len() <= NAME_BYTES_MAX)
    }

    /// The host's iSCSI name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ISID.
    pub const fn isid(&self) -> [u8; 6] {
        self.isid
    }

    /// Its TransportID, of a port (SPC-4 table 507).
    pub(crate) fn emit(&self, to: &mut Vec<u8>) {
        let mut text = format!("{}{SEPARATOR}", self.name);
        for byte in self.isid {
            text.push_str(&format!("{byte:02x}"));
        }
        let len = (text.len() + 1).next_multiple_of(4).max(ADDITIONAL_BYTES_MIN);
        to.extend([OF_PORT << 6 | ISCSI, 0]);
        to.extend((len as u16).to_be_bytes());
        to.extend(text.as_bytes());
        to.resize(to.len() + len - text.len(), 0);
    }
}

/// What a TransportID names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum TransportId {
    /// Every port of the host with this name that is known.
    Device(Box<str>),
    /// One port.
    Port(InitiatorPort),
}

impl TransportId {
    /// The first one of `bytes`, and how long it is; none: it is no TransportID of iSCSI.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let header = bytes.get(..4)?;
        let len = be16(header, 2) as usize;
        let text = bytes.get(4..4 + len)?;
        let is_sized = len >= ADDITIONAL_BYTES_MIN && len.is_multiple_of(4) && 4 + len <= TRANSPORT_ID_BYTES_MAX;
        if !is_sized || header[0] & 0x3f != ISCSI {
            return None;
        }
        // Null-terminated and null-padded.
        let end = text.iter().position(|&byte| byte == 0)?;
        let text = std::str::from_utf8(&text[..end]).ok()?;
        let id = match header[0] >> 6 {
            OF_DEVICE => Self::Device(InitiatorPort::new(text, [0; 6])?.name),
            OF_PORT => {
                let (name, digits) = text.split_once(SEPARATOR)?;
                Self::Port(InitiatorPort::new(name, isid_of(digits)?)?)
            }
            _ => return None,
        };
        Some((id, 4 + len))
    }
}

fn isid_of(digits: &str) -> Option<[u8; 6]> {
    if digits.len() != ISID_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, 16).ok()?;
    value.to_be_bytes().last_chunk().copied()
}

/// An I_T nexus by its ports, whatever session it is used through: what registrations and reservations are of.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Path {
    pub(crate) initiator: InitiatorPort,
    /// Relative target port identifier.
    pub(crate) target: u16,
}

impl Path {
    /// Stands for the path where there is no room for it: whoever shares it with another one is told of what concerns
    /// that one, which harms nobody.
    pub(crate) fn digest(&self) -> u64 {
        // FNV-1a, 64 bits; zero means something else.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let parts = [self.initiator.name.as_bytes(), &self.initiator.isid, &self.target.to_be_bytes()];
        let hash = parts.into_iter().flatten().fold(OFFSET, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        hash.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "iqn.1998-01.com.Example:host";

    fn port() -> InitiatorPort {
        InitiatorPort::new(NAME, [0, 2, 0x3d, 0xab, 0xcd, 0xef]).unwrap()
    }

    /// SPC-4 table 507: format 01b, protocol 5h, a length, the name with its ISID, a zero, padding.
    #[test]
    fn a_transport_id_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        port().emit(&mut bytes);
        assert_eq!(&bytes[..4], [0x45, 0, 0, 48]);
        assert_eq!(&bytes[4..50], b"iqn.1998-01.com.example:host,i,0x00023dabcdef\0");
        assert_eq!(bytes.len(), 52);
        bytes.extend([1, 2, 3]);
        assert_eq!(TransportId::parse(&bytes), Some((TransportId::Port(port()), 52)));
    }

    #[test]
    fn a_transport_id_of_a_device_names_no_port() {
        let mut bytes = vec![0x05, 0, 0, 20];
        bytes.extend(b"iqn.2000-01.org:H\0\0\0");
        assert_eq!(TransportId::parse(&bytes), Some((TransportId::Device("iqn.2000-01.org:h".into()), 24)));
    }

    #[test]
    fn what_is_no_transport_id_is_not_taken_for_one() {
        let mut good = Vec::new();
        port().emit(&mut good);
        let spoilt = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let no_end = [&[0x45, 0, 0, 20][..], &[b'a'; 20]].concat();
        let no_name = [&[0x05, 0, 0, 20][..], &[0; 20]].concat();
        let cases = [
            &good[..51],           // shorter than it says
            &spoilt(0, 0x46)[..],  // SAS
            &spoilt(0, 0x85)[..],  // format 10b
            &spoilt(3, 46)[..],    // no multiple of four
            &spoilt(3, 16)[..],    // below the least length
            &spoilt(2, 0xff)[..],  // beyond the end
            &spoilt(33, b';')[..], // no separator
            &spoilt(48, b'g')[..], // no digit
            &spoilt(10, 0xff)[..], // no UTF-8
            &no_end,
            &no_name,
            &[],
            &[0x45],
        ];
        for bytes in cases {
            assert_eq!(TransportId::parse(bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let longest = InitiatorPort::new(&"a".repeat(NAME_BYTES_MAX), [9; 6]).unwrap();
        let mut bytes = Vec::new();
        longest.emit(&mut bytes);
        assert_eq!(bytes.len(), TRANSPORT_ID_BYTES_MAX);
        assert_eq!(TransportId::parse(&bytes), Some((TransportId::Port(longest), bytes.len())));
        assert_eq!(InitiatorPort::new(&"a".repeat(NAME_BYTES_MAX + 1), [9; 6]), None);
    }
}
