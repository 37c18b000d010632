//! 128-bit identities, shown as UUIDs. They are made from random bytes at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The text was not a UUID in 8-4-4-4-12 hexadecimal form.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an id (expected a UUID such as 01234567-89ab-cdef-0123-456789abcdef)")]
pub struct ParseIdError(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(u128);

        impl $name {
            /// An id from 16 bytes, big endian. Random bytes come from the edge.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The 16 bytes, big endian, as they stand on disk and on the wire.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                format_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_uuid(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

id!(
    /// The nodes that keep each other's images; made once, by `dyad cluster init`.
    ClusterId
);
id!(
    /// One running Dyad.
    NodeId
);
id!(
    /// Disks of one node that hold extents.
    PoolId
);
id!(
    /// A block device or a file given to a pool.
    DiskId
);
id!(
    /// What a host sees as a LUN.
    VolumeId
);
id!(
    /// A contiguous part of a volume with its own record.
    SegmentId
);
id!(
    /// One copy of a segment.
    ImageId
);
id!(
    /// What one volume or snapshot itself wrote.
    LayerId
);
id!(
    /// One life of a config store; a re-seeded store gets a new one.
    StoreId
);

id!(
    /// One start of a machine, as the kernel names it (/proc/sys/kernel/random/boot_id): whether memory
    /// survived (M11).
    BootId
);

fn format_uuid(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let group = |shift: u32, bits: u32| (value >> shift) & ((1 << bits) - 1);
    write!(
        f,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        group(96, 32),
        group(80, 16),
        group(64, 16),
        group(48, 16),
        group(0, 48)
    )
}

fn parse_uuid(text: &str) -> Result<u128, ParseIdError> {
    let refuse = || ParseIdError(text.chars().take(64).collect());
    let bytes = text.as_bytes();
    if bytes.len() != 36 {
        return Err(refuse());
    }
    let mut value = 0_u128;
    for (at, &byte) in bytes.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return Err(refuse());
            }
        } else {
            let digit = char::from(byte).to_digit(16).ok_or_else(refuse)?;
            value = value << 4 | u128::from(digit);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = VolumeId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233-3435-3637-3839-616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn odd_text_is_refused() {
        for text in ["", "30313233", "30313233x3435-3637-3839-616263646566", "g0313233-3435-3637-3839-616263646566"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
