//! Command descriptor blocks that the tests and loads send (SPC-4, SBC-3).

/// A CDB padded with zeros to 16 bytes, as an iSCSI command carries it.
pub type Cdb = [u8; 16];

/// TEST UNIT READY (SPC-4 §6.47).
pub fn test_unit_ready() -> Cdb {
    [0; 16]
}

/// INQUIRY of the standard data or of one vital product data page (SPC-4 §6.6).
pub fn inquiry(page: Option<u8>, allocation: u16) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x12;
    cdb[1] = u8::from(page.is_some());
    cdb[2] = page.unwrap_or(0);
    cdb[3..5].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// READ CAPACITY (16) (SBC-3 §5.16).
pub fn read_capacity(allocation: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x9e;
    cdb[1] = 0x10;
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// READ (10) where it fits, else READ (16) (SBC-3 §5.11, §5.13).
pub fn read(lba: u64, blocks: u32) -> Cdb {
    transfer(0x28, 0x88, 0, lba, blocks)
}

/// WRITE (10) where it fits, else WRITE (16) (SBC-3 §5.25, §5.27).
pub fn write(lba: u64, blocks: u32) -> Cdb {
    transfer(0x2a, 0x8a, 0, lba, blocks)
}

/// WRITE with FUA: durable before it is answered (SBC-3 §5.25).
pub fn write_fua(lba: u64, blocks: u32) -> Cdb {
    transfer(0x2a, 0x8a, 0x08, lba, blocks)
}

/// WRITE (16), also where the short form would do.
pub fn write_16(lba: u64, blocks: u32) -> Cdb {
    long(0x8a, 0, lba, blocks)
}

/// READ (16), also where the short form would do.
pub fn read_16(lba: u64, blocks: u32) -> Cdb {
    long(0x88, 0, lba, blocks)
}

/// PERSISTENT RESERVE IN, up to so many bytes (SPC-4 §6.15).
pub fn reserve_in(action: u8, allocation: u16) -> Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x5e, action);
    cdb[7..9].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// PERSISTENT RESERVE OUT of the logical unit, with the list of [`reserve_list`] (SPC-4 §6.16).
pub fn reserve_out(action: u8, kind: u8) -> Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[2], cdb[8]) = (0x5f, action, kind, 24);
    cdb
}

/// RESERVATION KEY, SERVICE ACTION RESERVATION KEY and APTPL (SPC-4 table 208).
pub fn reserve_list(key: u64, new_key: u64) -> Vec<u8> {
    let mut list = [key.to_be_bytes(), new_key.to_be_bytes()].concat();
    list.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    list
}

/// SYNCHRONIZE CACHE (10) of everything (SBC-3 §5.20).
pub fn synchronize_cache() -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x35;
    cdb
}

/// UNMAP with a parameter list of `len` bytes (SBC-3 §5.28).
pub fn unmap(len: u16) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x42;
    cdb[7..9].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// The parameter list of an UNMAP with one descriptor (SBC-3 §5.28.2).
pub fn unmap_list(lba: u64, blocks: u32) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[0..2].copy_from_slice(&22u16.to_be_bytes());
    list[2..4].copy_from_slice(&16u16.to_be_bytes());
    list[8..16].copy_from_slice(&lba.to_be_bytes());
    list[16..20].copy_from_slice(&blocks.to_be_bytes());
    list
}

/// EXTENDED COPY (LID1) with a parameter list of `len` bytes (SPC-4 §6.3).
pub fn extended_copy(len: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    cdb[10..14].copy_from_slice(&len.to_be_bytes());
    cdb
}

/// The parameter list of an EXTENDED COPY of one block to block segment, from the first unit named to the second, both with
/// logical blocks of `block_len` bytes (SPC-4 §6.3.1, §6.3.5.2, §6.3.6.3).
pub fn copy_list(ends: [[u8; 16]; 2], block_len: u32, source: u64, destination: u64, blocks: u16) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[2..4].copy_from_slice(&64u16.to_be_bytes());
    list[8..12].copy_from_slice(&28u32.to_be_bytes());
    for name in ends {
        list.extend([0xe4, 0, 0, 0, 0x01, 0x03, 0, 16]);
        list.extend(name);
        list.extend([0; 4]);
        list.extend(block_len.to_be_bytes());
    }
    list.extend([0x02, 0, 0, 0x18, 0, 0, 0, 1, 0, 0]);
    list.extend(blocks.to_be_bytes());
    list.extend(source.to_be_bytes());
    list.extend(destination.to_be_bytes());
    list
}

fn transfer(short_opcode: u8, long_opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let (Ok(short_lba), Ok(short_blocks)) = (u32::try_from(lba), u16::try_from(blocks)) else {
        return long(long_opcode, flags, lba, blocks);
    };
    let mut cdb = [0; 16];
    cdb[0] = short_opcode;
    cdb[1] = flags;
    cdb[2..6].copy_from_slice(&short_lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&short_blocks.to_be_bytes());
    cdb
}

fn long(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::{read, write};

    #[test]
    fn the_short_form_is_taken_where_it_fits() {
        assert_eq!(read(8, 1)[..10], [0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0]);
        assert_eq!(write(1 << 32, 1)[0], 0x8a);
        assert_eq!(write(0, 65_536)[0], 0x8a);
    }
}
