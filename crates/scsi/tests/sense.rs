//! Sense data in both formats, byte by byte (SPC-4 §4.5).

use dyad_scsi::{Asc, Condition, Field, Sense, SenseFormat, SenseKey};

fn fixed(condition: Condition) -> Vec<u8> {
    Sense::new(condition, SenseFormat::Fixed).to_vec()
}

fn descriptor(condition: Condition) -> Vec<u8> {
    Sense::new(condition, SenseFormat::Descriptor).to_vec()
}

/// SPC-4 §4.5.3; information descriptor §4.5.2.2.
#[test]
fn information_has_four_bytes_or_eight() {
    let condition = Condition::new(SenseKey::MediumError, Asc::UNRECOVERED_READ).with_information(0x0102_0304);
    assert_eq!(fixed(condition), [0xf0, 0, 3, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
    assert_eq!(descriptor(condition), [0x72, 3, 0x11, 0, 0, 0, 0, 12, 0x00, 0x0a, 0x80, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
}

/// An LBA beyond 2 TiB does not fit in fixed format: better none (VALID zero) than a wrong one.
#[test]
fn information_that_does_not_fit_is_left_out() {
    let condition = Condition::new(SenseKey::MediumError, Asc::UNRECOVERED_READ).with_information(1 << 32);
    assert_eq!(fixed(condition), [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]);
    assert_eq!(descriptor(condition)[12..], [0, 0, 0, 1, 0, 0, 0, 0]);
}

/// SPC-4 §4.5.2.4.2: SKSV, C/D, BPV, BIT POINTER, FIELD POINTER.
#[test]
fn the_field_pointer_names_list_or_cdb_byte_and_bit() {
    for (field, pointer) in [
        (Field::cdb(10), [0xc0, 0, 10]),
        (Field::cdb_bit(1, 4), [0xcc, 0, 1]),
        (Field::cdb_bit(1, 0), [0xc8, 0, 1]),
        (Field::list(0x1234), [0x80, 0x12, 0x34]),
    ] {
        let condition = Condition { field: Some(field), ..Condition::illegal(Asc::INVALID_FIELD_IN_CDB) };
        assert_eq!(fixed(condition)[15..], pointer);
        let expected = [[0x72, 5, 0x24, 0, 0, 0, 0, 8, 0x02, 0x06, 0, 0].as_slice(), &pointer, &[0]].concat();
        assert_eq!(descriptor(condition), expected);
    }
}

/// Both descriptors at once are the longest there is.
#[test]
fn the_longest_sense_data_fit() {
    let condition = Condition::invalid_list(9).with_information(7);
    assert_eq!(descriptor(condition).len(), 28);
    assert_eq!(descriptor(condition)[7], 20, "ADDITIONAL SENSE LENGTH");
}
