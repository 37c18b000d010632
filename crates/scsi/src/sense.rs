//! Sense data: what went wrong, where, in fixed or descriptor format (SPC-4 §4.5).

use std::fmt;
use std::ops::Deref;

/// SPC-4 §4.5.6, the keys that this device server reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The logical unit cannot be accessed now.
    NotReady = 0x2,
    /// Flaw of the medium: no good copy of a block is left.
    MediumError = 0x3,
    /// This device server does not work as it should.
    HardwareError = 0x4,
    /// The CDB or the parameter list is at fault.
    IllegalRequest = 0x5,
    /// Something happened that the initiator port has to know first.
    UnitAttention = 0x6,
    /// Writing is not possible.
    DataProtect = 0x7,
    /// A third-party copy ended before its end (SPC-4 §5.16.7).
    CopyAborted = 0xa,
    /// The command was given up; it may be sent again.
    AbortedCommand = 0xb,
    /// Source data differ from the medium's.
    Miscompare = 0xe,
}

/// ADDITIONAL SENSE CODE and its qualifier (SPC-4 annex F, table F.2).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Asc(pub u8, pub u8);

impl Asc {
    /// NO ADDITIONAL SENSE INFORMATION.
    pub const NONE: Self = Self(0x00, 0x00);
    /// OPERATION IN PROGRESS.
    pub const OPERATION_IN_PROGRESS: Self = Self(0x00, 0x16);
    /// LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED.
    pub const START_REQUIRED: Self = Self(0x04, 0x02);
    /// PERIPHERAL DEVICE WRITE FAULT: the code for a failed write that annex F assigns to direct access block
    /// devices (WRITE ERROR, 0Ch/00h, is for tapes).
    pub const WRITE_FAULT: Self = Self(0x03, 0x00);
    /// LOGICAL UNIT COMMUNICATION FAILURE.
    pub const LOGICAL_UNIT_COMMUNICATION: Self = Self(0x08, 0x00);
    /// UNREACHABLE COPY TARGET.
    pub const UNREACHABLE_COPY_TARGET: Self = Self(0x08, 0x04);
    /// THIRD PARTY DEVICE FAILURE.
    pub const THIRD_PARTY_FAILURE: Self = Self(0x0d, 0x01);
    /// COPY TARGET DEVICE NOT REACHABLE.
    pub const COPY_TARGET_NOT_REACHABLE: Self = Self(0x0d, 0x02);
    /// INCORRECT COPY TARGET DEVICE TYPE.
    pub const COPY_TARGET_TYPE: Self = Self(0x0d, 0x03);
    /// INVALID FIELD IN COMMAND INFORMATION UNIT: the transport announced another length than the CDB.
    pub const INVALID_FIELD_IN_COMMAND_UNIT: Self = Self(0x0e, 0x03);
    /// UNRECOVERED READ ERROR.
    pub const UNRECOVERED_READ: Self = Self(0x11, 0x00);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH: Self = Self(0x1a, 0x00);
    /// MISCOMPARE DURING VERIFY OPERATION.
    pub const MISCOMPARE: Self = Self(0x1d, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Self = Self(0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Self = Self(0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Self = Self(0x24, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const LUN_NOT_SUPPORTED: Self = Self(0x25, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_FIELD_IN_LIST: Self = Self(0x26, 0x00);
    /// INVALID RELEASE OF PERSISTENT RESERVATION.
    pub const INVALID_RELEASE: Self = Self(0x26, 0x04);
    /// TOO MANY TARGET DESCRIPTORS.
    pub const TOO_MANY_TARGET_DESCRIPTORS: Self = Self(0x26, 0x06);
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const TARGET_DESCRIPTOR_TYPE: Self = Self(0x26, 0x07);
    /// TOO MANY SEGMENT DESCRIPTORS.
    pub const TOO_MANY_SEGMENT_DESCRIPTORS: Self = Self(0x26, 0x08);
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const SEGMENT_DESCRIPTOR_TYPE: Self = Self(0x26, 0x09);
    /// INLINE DATA LENGTH EXCEEDED.
    pub const INLINE_DATA_LENGTH: Self = Self(0x26, 0x0b);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Self = Self(0x27, 0x00);
    /// LOGICAL UNIT SOFTWARE WRITE PROTECTED.
    pub const SOFTWARE_WRITE_PROTECTED: Self = Self(0x27, 0x02);
    /// SPACE ALLOCATION FAILED WRITE PROTECT.
    pub const SPACE_ALLOCATION_FAILED: Self = Self(0x27, 0x07);
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    pub const POWER_ON: Self = Self(0x29, 0x00);
    /// BUS DEVICE RESET FUNCTION OCCURRED.
    pub const DEVICE_RESET: Self = Self(0x29, 0x03);
    /// I_T NEXUS LOSS OCCURRED.
    pub const NEXUS_LOSS: Self = Self(0x29, 0x07);
    /// MODE PARAMETERS CHANGED.
    pub const MODE_PARAMETERS_CHANGED: Self = Self(0x2a, 0x01);
    /// ASYMMETRIC ACCESS STATE CHANGED.
    pub const ACCESS_STATE_CHANGED: Self = Self(0x2a, 0x06);
    /// RESERVATIONS PREEMPTED.
    pub const RESERVATIONS_PREEMPTED: Self = Self(0x2a, 0x03);
    /// RESERVATIONS RELEASED.
    pub const RESERVATIONS_RELEASED: Self = Self(0x2a, 0x04);
    /// REGISTRATIONS PREEMPTED.
    pub const REGISTRATIONS_PREEMPTED: Self = Self(0x2a, 0x05);
    /// CAPACITY DATA HAS CHANGED.
    pub const CAPACITY_CHANGED: Self = Self(0x2a, 0x09);
    /// COMMAND SEQUENCE ERROR.
    pub const COMMAND_SEQUENCE: Self = Self(0x2c, 0x00);
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    pub const COMMANDS_CLEARED: Self = Self(0x2f, 0x00);
    /// THIN PROVISIONING SOFT THRESHOLD REACHED.
    pub const SOFT_THRESHOLD: Self = Self(0x38, 0x07);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING_NOT_SUPPORTED: Self = Self(0x39, 0x00);
    /// INQUIRY DATA HAS CHANGED.
    pub const INQUIRY_CHANGED: Self = Self(0x3f, 0x03);
    /// REPORTED LUNS DATA HAS CHANGED.
    pub const LUNS_CHANGED: Self = Self(0x3f, 0x0e);
    /// ECHO BUFFER OVERWRITTEN.
    pub const ECHO_OVERWRITTEN: Self = Self(0x3f, 0x0f);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL_TARGET_FAILURE: Self = Self(0x44, 0x00);
    /// INSUFFICIENT REGISTRATION RESOURCES.
    pub const INSUFFICIENT_REGISTRATIONS: Self = Self(0x55, 0x04);
    /// SET TARGET PORT GROUPS COMMAND FAILED.
    pub const SET_GROUPS_FAILED: Self = Self(0x67, 0x0a);
}

impl fmt::Debug for Asc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}h/{:02x}h", self.0, self.1)
    }
}

/// Field pointer sense key specific data (SPC-4 §4.5.2.4.2): which byte, and which bit of it, is at fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Whether it is in the CDB (C/D set) or in the parameter list.
    pub in_cdb: bool,
    /// Index of the byte.
    pub byte: u16,
    /// Most significant bit of the field, where it does not begin with the byte.
    pub bit: Option<u8>,
}

impl Field {
    /// A field of the CDB that begins at bit 7 of `byte`, or covers it whole.
    pub const fn cdb(byte: u16) -> Self {
        Self { in_cdb: true, byte, bit: None }
    }

    /// A field of the CDB whose most significant bit is `bit` of `byte`.
    pub const fn cdb_bit(byte: u16, bit: u8) -> Self {
        Self { in_cdb: true, byte, bit: Some(bit) }
    }

    /// A field of the parameter list.
    pub const fn list(byte: u16) -> Self {
        Self { in_cdb: false, byte, bit: None }
    }
}

/// A condition to be reported, before it takes one of the two formats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Condition {
    /// The sense key.
    pub key: SenseKey,
    /// The additional sense code.
    pub asc: Asc,
    /// INFORMATION: an LBA or an offset, as the command defines it (SBC-3 §4.18.1).
    pub information: Option<u64>,
    /// The field at fault, with ILLEGAL REQUEST.
    pub field: Option<Field>,
}

impl Condition {
    /// A condition without further particulars.
    pub const fn new(key: SenseKey, asc: Asc) -> Self {
        Self { key, asc, information: None, field: None }
    }

    /// ILLEGAL REQUEST, INVALID FIELD IN CDB, pointing there.
    pub const fn invalid_cdb(field: Field) -> Self {
        Self { field: Some(field), ..Self::new(SenseKey::IllegalRequest, Asc::INVALID_FIELD_IN_CDB) }
    }

    /// ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST, pointing there.
    pub const fn invalid_list(byte: u16) -> Self {
        Self { field: Some(Field::list(byte)), ..Self::new(SenseKey::IllegalRequest, Asc::INVALID_FIELD_IN_LIST) }
    }

    /// ILLEGAL REQUEST with this code.
    pub const fn illegal(asc: Asc) -> Self {
        Self::new(SenseKey::IllegalRequest, asc)
    }

    /// With INFORMATION.
    #[must_use]
    pub const fn with_information(self, information: u64) -> Self {
        Self { information: Some(information), ..self }
    }
}

/// Which of the two formats (D_SENSE of the Control mode page, DESC of REQUEST SENSE).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SenseFormat {
    /// Response code 70h (SPC-4 §4.5.3).
    Fixed,
    /// Response code 72h (SPC-4 §4.5.2).
    Descriptor,
}

/// Length of fixed format sense data.
const FIXED_BYTES: usize = 18;
/// The longest that is sent: that of a copy, behind which the status and the sense data of its source or destination
/// stand. (In descriptor format: header, information and sense key specific descriptors, 28 bytes.)
const SENSE_BYTES_MAX: usize = FIXED_BYTES + 1 + FIXED_BYTES;

/// Where a copy failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CopySide {
    /// At what it reads.
    Source,
    /// At what it writes.
    Destination,
}

/// Encoded sense data, kept in place.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Sense {
    bytes: [u8; SENSE_BYTES_MAX],
    len: u8,
}

impl Sense {
    /// Encodes a condition.
    pub fn new(condition: Condition, format: SenseFormat) -> Self {
        match format {
            SenseFormat::Fixed => Self::fixed(condition),
            SenseFormat::Descriptor => Self::descriptor(condition),
        }
    }

    fn fixed(condition: Condition) -> Self {
        let mut bytes = [0; SENSE_BYTES_MAX];
        bytes[0] = 0x70;
        bytes[2] = condition.key as u8;
        // What does not fit in four bytes is left out with VALID zero (SPC-4 §4.5.3).
        if let Some(Ok(information)) = condition.information.map(u32::try_from) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[7] = FIXED_BYTES as u8 - 8;
        bytes[12] = condition.asc.0;
        bytes[13] = condition.asc.1;
        if let Some(field) = condition.field {
            bytes[15..18].copy_from_slice(&field_pointer(field));
        }
        Self { bytes, len: FIXED_BYTES as u8 }
    }

    /// COPY ABORTED while a segment was processed, with what its source or destination said, byte for byte: its status,
    /// then its sense data (SPC-4 §5.16.7.4; fixed format, as `Self::new` would make it).
    pub(crate) fn copy_aborted(asc: Asc, segment: u16, side: CopySide, status: u8, inner: Option<Self>) -> Self {
        let mut sense = Self::fixed(Condition::new(SenseKey::CopyAborted, asc));
        // COMMAND-SPECIFIC INFORMATION: where the source's begins, where the destination's does, the segment's number.
        let at = match side {
            CopySide::Source => 8,
            CopySide::Destination => 9,
        };
        sense.bytes[at] = FIXED_BYTES as u8;
        sense.bytes[10..12].copy_from_slice(&segment.to_be_bytes());
        sense.bytes[FIXED_BYTES] = status;
        let inner = inner.as_deref().unwrap_or_default();
        let len = inner.len().min(FIXED_BYTES);
        sense.bytes[FIXED_BYTES + 1..][..len].copy_from_slice(&inner[..len]);
        sense.len += 1 + len as u8;
        sense.bytes[7] = sense.len - 8;
        sense
    }

    fn descriptor(condition: Condition) -> Self {
        let mut bytes = [0; SENSE_BYTES_MAX];
        bytes[0] = 0x72;
        bytes[1] = condition.key as u8;
        bytes[2] = condition.asc.0;
        bytes[3] = condition.asc.1;
        let mut len = 8;
        if let Some(information) = condition.information {
            // Information descriptor (SPC-4 §4.5.2.2), VALID set.
            bytes[len..len + 3].copy_from_slice(&[0x00, 0x0a, 0x80]);
            bytes[len + 4..len + 12].copy_from_slice(&information.to_be_bytes());
            len += 12;
        }
        if let Some(field) = condition.field {
            // Sense key specific descriptor (SPC-4 §4.5.2.4).
            bytes[len..len + 2].copy_from_slice(&[0x02, 0x06]);
            bytes[len + 4..len + 7].copy_from_slice(&field_pointer(field));
            len += 8;
        }
        bytes[7] = len as u8 - 8;
        Self { bytes, len: len as u8 }
    }
}

fn field_pointer(field: Field) -> [u8; 3] {
    let [high, low] = field.byte.to_be_bytes();
    let in_cdb = if field.in_cdb { 0x40 } else { 0 };
    let bit = field.bit.map_or(0, |bit| 0x08 | bit);
    [0x80 | in_cdb | bit, high, low]
}

impl Deref for Sense {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sense({:02x?})", &**self)
    }
}
