//! What a sector holds: its own address and the number of the write, spread over all its bytes.

use crate::random::mix;

/// Unit of the bookkeeping, whatever the logical block size.
pub const SECTOR: usize = 512;

const WORDS: usize = SECTOR / 8;

/// Number of a write; 0 is "never written or unmapped", all zeros.
pub type Value = u64;

/// Fills whole sectors from `lba` on with `value`.
pub fn fill(seed: u64, lba: u64, value: Value, bytes: &mut [u8]) {
    if value == 0 {
        bytes.fill(0);
        return;
    }
    for (sector, lba) in bytes.chunks_exact_mut(SECTOR).zip(lba..) {
        let key = key(seed, lba, value);
        for (index, word) in sector.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&word_at(key, lba, value, index).to_le_bytes());
        }
    }
}

/// The value that one sector holds; `None` if it is none that [`fill`] ever put there.
pub fn value_of(seed: u64, lba: u64, sector: &[u8]) -> Option<Value> {
    let word = |index: usize| sector[index * 8..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    if sector.iter().all(|byte| *byte == 0) {
        return Some(0);
    }
    let value = word(1)?;
    let key = key(seed, lba, value);
    (0..WORDS).all(|index| word(index) == Some(word_at(key, lba, value, index))).then_some(value)
}

fn key(seed: u64, lba: u64, value: Value) -> u64 {
    mix(seed ^ mix(lba) ^ value.rotate_left(32))
}

fn word_at(key: u64, lba: u64, value: Value, index: usize) -> u64 {
    match index {
        0 => lba,
        1 => value,
        _ => key.wrapping_mul(index as u64 | 1).rotate_left(index as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::{SECTOR, fill, value_of};

    #[test]
    fn a_sector_tells_its_value_only_at_its_own_place_and_whole() {
        let mut bytes = vec![0; 2 * SECTOR];
        fill(1, 10, 77, &mut bytes);
        assert_eq!(value_of(1, 10, &bytes[..SECTOR]), Some(77));
        assert_eq!(value_of(1, 11, &bytes[SECTOR..]), Some(77));
        assert_eq!(value_of(1, 10, &bytes[SECTOR..]), None, "a sector of another address");
        assert_eq!(value_of(2, 10, &bytes[..SECTOR]), None, "a sector of another volume");
        for at in 0..SECTOR {
            let mut bad = bytes[..SECTOR].to_vec();
            bad[at] ^= 1;
            assert_eq!(value_of(1, 10, &bad), None, "byte {at} is wrong");
        }
    }

    #[test]
    fn zeros_are_value_zero() {
        assert_eq!(value_of(1, 10, &[0; SECTOR]), Some(0));
    }
}
