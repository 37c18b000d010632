use proptest::prelude::{ProptestConfig, any, proptest};

use super::*;

/// The first 128 KiB of a disk that claims to be larger.
struct Head {
    bytes: Vec<u8>,
    size: u64,
    /// Home that cannot be read.
    unreadable: Option<u64>,
}

impl BlockingDisk for Head {
    fn size(&self) -> Bytes {
        Bytes::new(self.size)
    }

    fn physical_block(&self) -> u32 {
        512
    }

    fn read_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        if self.unreadable == Some(offset) {
            return Err(DiskError::IO);
        }
        to.copy_from_slice(&self.bytes[offset as usize..][..to.len()]);
        Ok(())
    }

    fn read_direct_at(&mut self, to: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.read_at(to, offset)
    }

    fn write_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.bytes[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn write_durable_at(&mut self, from: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_at(from, offset)
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

const SIZE: u64 = 64 << 20;

fn empty() -> Head {
    Head { bytes: vec![0; 128 << 10], size: SIZE, unreadable: None }
}

fn superblock(mount: u64) -> Superblock {
    Superblock {
        version: VERSION,
        pool: PoolId::from_bytes([1; 16]),
        disk: DiskId::from_bytes([2; 16]),
        node: NodeId::from_bytes([3; 16]),
        generation: 4,
        mount,
        start_counter: 6,
        physical_block: 4096,
        clean: mount.is_multiple_of(2),
        layout: Layout::plan(Bytes::new(SIZE)).unwrap(),
    }
}

fn formatted(mount: u64) -> Head {
    let mut disk = empty();
    write_both(&mut disk, &superblock(mount)).unwrap();
    disk
}

/// Changes fields of both homes as a newer program would, with a right checksum.
fn patched(at: usize, value: u32) -> Head {
    let mut block = superblock(1).encode();
    block[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let sum = crc([0; 16], &[&block[..CRC_AT]]);
    block[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
    let mut disk = empty();
    for offset in HOMES {
        disk.write_at(&block, offset).unwrap();
    }
    disk
}

#[test]
fn a_superblock_reads_back() {
    for mount in [1, 2] {
        assert_eq!(read(&mut formatted(mount)), Ok(superblock(mount)));
    }
}

#[test]
fn a_crash_between_the_homes_leaves_one_and_the_later_counts() {
    let mut disk = formatted(1);
    disk.write_at(&superblock(2).encode(), HOMES[0]).unwrap();
    assert_eq!(read(&mut disk), Ok(superblock(2)));
    let mut disk = formatted(2);
    disk.write_at(&superblock(1).encode(), HOMES[0]).unwrap();
    assert_eq!(read(&mut disk), Ok(superblock(2)));
}

#[test]
fn any_one_damaged_home_is_made_up_for_by_the_other() {
    for home in HOMES {
        for at in (0..BYTES).step_by(61).chain([CRC_AT]) {
            let mut disk = formatted(1);
            disk.bytes[home as usize + at] ^= 0x10;
            assert_eq!(read(&mut disk), Ok(superblock(1)), "byte {at} of the home at {home}");
        }
        let mut disk = formatted(1);
        disk.unreadable = Some(home);
        assert_eq!(read(&mut disk), Ok(superblock(1)));
    }
}

#[test]
fn two_damaged_homes_are_said_to_be_damaged() {
    let mut disk = formatted(1);
    for home in HOMES {
        disk.bytes[home as usize + 100] ^= 1;
    }
    assert_eq!(read(&mut disk), Err(OpenError::SuperblocksDamaged));
}

#[test]
fn a_disk_without_a_pool_is_foreign_also_after_an_interrupted_format() {
    assert_eq!(read(&mut empty()), Err(OpenError::Foreign));
    assert_eq!(read(&mut Head { size: 100, ..empty() }), Err(OpenError::Foreign));
    let mut disk = formatted(1);
    erase(&mut disk).unwrap();
    assert_eq!(read(&mut disk), Err(OpenError::Foreign));
}

#[test]
fn a_newer_format_is_refused_whatever_else_it_says() {
    let newer = OpenError::NewerVersion { found: 2, known: 1 };
    assert_eq!(read(&mut patched(8, 2)), Err(newer.clone()));
    let mut disk = patched(8, 2);
    for home in HOMES {
        disk.bytes[home as usize + 100] ^= 1;
    }
    assert_eq!(read(&mut disk), Err(newer));
    assert_eq!(read(&mut patched(12, 4)), Err(OpenError::UnknownFeatures { flags: 4 }));
}

#[test]
fn a_disk_that_was_cut_off_is_refused() {
    let mut disk = formatted(1);
    disk.size = SIZE - 1;
    let (size, needed) = (Bytes::new(SIZE - 1), Bytes::new(SIZE));
    assert_eq!(read(&mut disk), Err(OpenError::Truncated { size, needed }));
}

#[test]
fn homes_of_two_disks_are_not_chosen_from() {
    let mut disk = formatted(1);
    let other = Superblock { disk: DiskId::from_bytes([9; 16]), ..superblock(5) };
    disk.write_at(&other.encode(), HOMES[1]).unwrap();
    assert!(matches!(read(&mut disk), Err(OpenError::Inconsistent { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_under_a_right_checksum_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 300),
        version in 0..3_u32,
    ) {
        let mut block = [0; BYTES];
        block[16..316].copy_from_slice(&bytes);
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&version.to_le_bytes());
        let sum = crc([0; 16], &[&block[..CRC_AT]]);
        block[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        decode(&block);
    }
}
