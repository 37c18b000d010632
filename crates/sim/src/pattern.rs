//! Contents that name themselves: every 512-byte sector says which write of which block it belongs to, so
//! that a wrong byte is not only noticed but explained.
//!
//! ```text
//!  0        8        16       24       32       40                               512
//!  +--------+--------+--------+--------+--------+---------------------------------+
//!  | magic  | image  | block  | sector | version| stream keyed by the four numbers |
//!  +--------+--------+--------+--------+--------+---------------------------------+
//! ```

use std::fmt;

use crate::rng::split_mix;

/// Bytes of a sector: the smallest unit that a disk writes untorn (A5).
pub const SECTOR: usize = 512;
/// Bytes of a block: the unit of checksum.
pub const BLOCK: usize = 4096;

const SECTORS: usize = BLOCK / SECTOR;
const MAGIC: u64 = u64::from_le_bytes(*b"dyad-sim");
const HEADER: usize = 40;
/// Where its version stands there.
const VERSION_AT: usize = 32;
/// From here on, versions stand for sectors in which bits changed on a disk: no write has them.
const ROTTEN: u32 = 1 << 31;
/// More changed bits than these in one sector are another content.
const ROTTEN_BITS_MAX: u32 = 8;

/// What one block holds: per sector the number of the write that it came from, zero for zeros. Numbers are
/// unique over a whole run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Value([u32; SECTORS]);

impl Value {
    /// All bytes zero: never written, or unmapped.
    pub const ZERO: Self = Self([0; SECTORS]);

    /// What write `version` (not zero) puts there.
    pub fn of(version: u32) -> Self {
        assert_ne!(version, 0, "version zero means zeros");
        Self([version; SECTORS])
    }

    /// With sectors `first .. first + count` as write `version` puts them there; zero: zeros.
    #[must_use]
    pub fn with_sectors(mut self, first: usize, count: usize, version: u32) -> Self {
        self.0[first..first + count].fill(version);
        self
    }

    /// What is there once the newest of its writes was merged into `base`.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let newest = self.0.iter().copied().max();
        Self(std::array::from_fn(|at| if Some(self.0[at]) == newest { self.0[at] } else { base.0[at] }))
    }

    /// Whether sectors of different writes stand side by side.
    pub fn is_torn(self) -> bool {
        self.0.iter().any(|&version| version != self.0[0])
    }

    /// What each sector has.
    pub fn sectors(self) -> impl Iterator<Item = u32> + Clone {
        self.0.into_iter()
    }

    /// Whether each sector has what one of `others` has there; what rotted, one had there.
    pub fn is_made_of(self, others: impl Iterator<Item = Self> + Clone) -> bool {
        (0..SECTORS).all(|at| self.0[at] >= ROTTEN || others.clone().any(|other| other.0[at] == self.0[at]))
    }

    /// Whether bits of a sector changed on a disk.
    pub fn is_rotten(self) -> bool {
        self.0.iter().any(|&version| version >= ROTTEN)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            _ if self.is_torn() => write!(f, "a torn mix of {:?}", self.0),
            [0, ..] => f.write_str("zeros"),
            [version, ..] => write!(f, "write {version}"),
        }
    }
}

/// Fills `bytes` (whole blocks, the first one `block` of `image`) with `value`.
pub fn fill(bytes: &mut [u8], image: u64, block: u64, value: Value) {
    assert!(bytes.len().is_multiple_of(BLOCK), "patterns are made of whole blocks");
    for (at, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
        let version = value.0[at % SECTORS];
        if version == 0 {
            sector.fill(0);
        } else {
            fill_sector(sector, [image, block + (at / SECTORS) as u64, (at % SECTORS) as u64, u64::from(version)]);
        }
    }
}

fn fill_sector(sector: &mut [u8], key: [u64; 4]) {
    sector[..8].copy_from_slice(&MAGIC.to_le_bytes());
    for (bytes, part) in sector[8..HEADER].chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    let mut state = key.iter().fold(MAGIC, |mixed, part| (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for bytes in sector[HEADER..].chunks_exact_mut(8) {
        bytes.copy_from_slice(&split_mix(&mut state).to_le_bytes());
    }
}

/// Says what the block at (`image`, `block`) holds, or in words what it should not.
pub fn identify(bytes: &[u8], image: u64, block: u64) -> Result<Value, String> {
    assert_eq!(bytes.len(), BLOCK, "one block is identified at a time");
    let mut versions = [0; SECTORS];
    for (at, sector) in bytes.chunks_exact(SECTOR).enumerate() {
        versions[at] = identify_sector(sector, image, block, at as u64)?;
    }
    Ok(Value(versions))
}

/// As [`identify`], where bits of what one of `parts` left there may have changed. A sector with such bits gets a version
/// of its own, the same whenever it is read.
pub fn identify_rotten(
    bytes: &[u8],
    image: u64,
    block: u64,
    parts: impl Iterator<Item = Value> + Clone,
) -> Result<Value, String> {
    let mut versions = [0; SECTORS];
    for (at, sector) in bytes.chunks_exact(SECTOR).enumerate() {
        let found = identify_sector(sector, image, block, at as u64);
        versions[at] = found.or_else(|what| {
            let words = sector.chunks_exact(8).map(|word| u64::from_le_bytes(*word.first_chunk().expect("8 bytes")));
            let hash = words.fold(MAGIC, |mixed, word| split_mix(&mut (mixed ^ word)));
            let version = ROTTEN | hash as u32;
            let is_of = |part: Value| {
                let mut whole = vec![0; BLOCK];
                if part.0[at] >= ROTTEN {
                    return part.0[at] == version;
                }
                fill(&mut whole, image, block, Value([part.0[at]; SECTORS]));
                let changed = sector.iter().zip(&whole[at * SECTOR..]).map(|(one, other)| (one ^ other).count_ones());
                changed.sum::<u32>() <= ROTTEN_BITS_MAX
            };
            if parts.clone().any(is_of) { Ok(version) } else { Err(what) }
        })?;
    }
    Ok(Value(versions))
}

/// What the sectors of a block say they hold, whether or not they do.
pub fn stated(bytes: &[u8]) -> Value {
    let mut versions = [0; SECTORS];
    for (version, sector) in versions.iter_mut().zip(bytes.chunks_exact(SECTOR)) {
        *version = sector[VERSION_AT..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    }
    Value(versions)
}

fn identify_sector(sector: &[u8], image: u64, block: u64, at: u64) -> Result<u32, String> {
    if sector.iter().all(|&byte| byte == 0) {
        return Ok(0);
    }
    let word = |index: usize| u64::from_le_bytes(*sector[index * 8..].first_chunk().expect("within a sector"));
    if word(0) != MAGIC {
        return Err(format!("bytes that no host wrote (first word {:#x})", word(0)));
    }
    let key = [word(1), word(2), word(3), word(4)];
    let mut expected = [0; SECTOR];
    fill_sector(&mut expected, key);
    if sector != expected {
        return Err(format!("damaged bytes of write {} of block {} of image {}", key[3], key[1], key[0]));
    }
    if key[..3] != [image, block, at] {
        return Err(format!("sector {} of block {} of image {} by write {}", key[2], key[1], key[0], key[3]));
    }
    u32::try_from(key[3]).map_err(|_| format!("a write {} that never was", key[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_its_write() {
        let mut bytes = vec![0; 2 * BLOCK];
        assert_eq!(identify(&bytes[..BLOCK], 3, 9), Ok(Value::ZERO));
        fill(&mut bytes, 3, 9, Value::of(70));
        assert_eq!(identify(&bytes[..BLOCK], 3, 9), Ok(Value::of(70)));
        assert_eq!(identify(&bytes[BLOCK..], 3, 10), Ok(Value::of(70)));
    }

    #[test]
    fn a_torn_a_foreign_and_a_flipped_block_are_told_apart() {
        let mut bytes = vec![0; BLOCK];
        fill(&mut bytes, 3, 9, Value::of(70));
        let mut mixed = bytes.clone();
        mixed[..SECTOR].fill(0);
        let torn = identify(&mixed, 3, 9).unwrap();
        assert!(torn.is_torn() && torn.is_made_of([Value::ZERO, Value::of(70)].into_iter()));
        assert!(!torn.is_made_of([Value::of(70)].into_iter()));
        fill(&mut bytes, 3, 9, torn);
        assert_eq!(bytes, mixed);

        fill(&mut bytes, 3, 9, Value::of(70));
        assert!(identify(&bytes, 3, 8).is_err());
        assert!(identify(&bytes, 4, 9).is_err());
        bytes[100] ^= 1;
        assert!(identify(&bytes, 3, 9).is_err());
    }
}
