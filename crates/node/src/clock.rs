//! Time, identity of the machine's present life, and randomness: what the pure rooms are handed from outside.

use std::fs;
use std::io;

use dyad_units::Moment;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// Now, on the clock that counts suspends (M5).
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    // The boot clock is never negative, and its seconds fit for 584 years.
    Moment::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Which life of the machine this is: changes whenever its memory was lost (M11).
///
/// # Errors
/// If the kernel does not tell.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let id: dyad_units::StoreId = text.trim().parse().map_err(io::Error::other)?;
    Ok(id.to_bytes())
}

/// Random bytes fit for ids and challenges.
///
/// # Panics
/// If the kernel has no randomness, without which no id can be made safely.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    bytes
}

/// Sixteen random bytes in the form of a version 4 UUID (RFC 9562 §5.4).
pub fn random_id() -> [u8; 16] {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_the_boot_stays_the_same() {
        let before = now();
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert!(now() > before);
    }

    #[test]
    fn two_ids_differ() {
        assert_ne!(random_id(), random_id());
    }
}
