//! EXTENDED COPY: parameter lists, and what its sense data say.

#![allow(dead_code)] // each test file uses its part

use dyad_scsi::Response;

/// A parameter list with identifier 7.
pub fn list(cscds: &[[u8; 32]], segments: &[[u8; 28]]) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[0] = 7;
    list[2..4].copy_from_slice(&(32 * cscds.len() as u16).to_be_bytes());
    list[8..12].copy_from_slice(&(28 * segments.len() as u32).to_be_bytes());
    list.extend(cscds.concat());
    list.extend(segments.concat());
    list
}

pub fn cdb(len: usize) -> [u8; 16] {
    let [a, b, c, d] = (len as u32).to_be_bytes();
    [0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// Bytes that say where they were.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at / 512) as u8).wrapping_mul(37).wrapping_add(at as u8) | 1).collect()
}

/// Key, code and qualifier.
pub type Codes = (u8, u8, u8);

/// Key, code, segment's number; status and key, code, qualifier of the source or the destination (SPC-4 §5.16.7.4).
pub fn third_party(response: &Response) -> (Codes, u16, bool, u8, Option<Codes>) {
    let sense = response.sense_bytes();
    assert_eq!(usize::from(sense[7]), sense.len() - 8, "ADDITIONAL SENSE LENGTH");
    let is_source = sense[8] != 0;
    let at = usize::from(sense[8].max(sense[9]));
    assert_eq!(sense[8].min(sense[9]), 0, "only one of the two failed");
    let inner = &sense[at + 1..];
    let codes = (!inner.is_empty()).then(|| (inner[2], inner[12], inner[13]));
    let segment = u16::from_be_bytes([sense[10], sense[11]]);
    ((sense[2], sense[12], sense[13]), segment, is_source, sense[at], codes)
}
