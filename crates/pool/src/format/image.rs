//! What a pool keeps about an image, as it stands on an image page and in the journal.

use dyad_units::{Bytes, Epoch, Extent, ImageId, Interval, LayerId, SegmentId, Stamp, VolumeId};

use crate::format::bytes::{Reader, Writer};
use crate::format::state::{ImageMeta, ImagePhase};

/// Longest segment record that an image keeps: with all else it fits an image page.
pub(crate) const SEGMENT_RECORD_BYTES_MAX: usize = 3584;

/// Bytes of an image besides its record.
const FIXED_BYTES: usize = 3 * 16 + 16 + 17 + 8 + 1 + 8 + 4 + 5 + 8 + 2;

const READY: u8 = 1;
const DELETING: u8 = 2;

/// Bytes that [`encode`] puts.
pub(crate) fn encoded_len(meta: &ImageMeta) -> usize {
    FIXED_BYTES + meta.record.len()
}

/// Puts an image.
///
/// # Panics
/// If its record is longer than [`SEGMENT_RECORD_BYTES_MAX`]: a fault of the caller, who refuses such a record.
pub(crate) fn encode(meta: &ImageMeta, to: &mut Writer<'_>) {
    assert!(meta.record.len() <= SEGMENT_RECORD_BYTES_MAX, "segment record too long for an image page");
    to.bytes(&meta.id.to_bytes());
    to.bytes(&meta.segment.to_bytes());
    to.bytes(&meta.volume.to_bytes());
    to.bytes(&meta.layer.to_bytes());
    to.u8(u8::from(meta.parent.is_some()));
    to.bytes(&meta.parent.map_or([0; 16], LayerId::to_bytes));
    to.u64(meta.size.value());
    to.u8(match meta.phase {
        ImagePhase::Ready => READY,
        ImagePhase::Deleting => DELETING,
    });
    encode_stamp(meta.closed, to);
    to.u32(meta.epoch.value());
    to.u8(u8::from(meta.cursor.is_some()));
    to.u32(meta.cursor.map_or(0, |extent| extent.0));
    encode_stamp(meta.complete, to);
    to.u16(meta.record.len() as u16);
    to.bytes(&meta.record);
}

/// Takes an image; `None` if none looks like this.
pub(crate) fn decode(from: &mut Reader<'_>) -> Option<ImageMeta> {
    let id = ImageId::from_bytes(from.array()?);
    let segment = SegmentId::from_bytes(from.array()?);
    let volume = VolumeId::from_bytes(from.array()?);
    let layer = LayerId::from_bytes(from.array()?);
    let (has_parent, parent) = (from.flag()?, LayerId::from_bytes(from.array()?));
    let size = Bytes::new(from.u64()?);
    let phase = match from.u8()? {
        READY => ImagePhase::Ready,
        DELETING => ImagePhase::Deleting,
        _ => return None,
    };
    let closed = decode_stamp(from)?;
    let epoch = Epoch::new(from.u32()?);
    let (has_cursor, cursor) = (from.flag()?, Extent(from.u32()?));
    let complete = decode_stamp(from)?;
    let record_len = usize::from(from.u16()?);
    if record_len > SEGMENT_RECORD_BYTES_MAX {
        return None;
    }
    let record = from.bytes(record_len)?.to_vec();
    let parent = has_parent.then_some(parent);
    let cursor = has_cursor.then_some(cursor);
    Some(ImageMeta { id, segment, volume, layer, parent, size, phase, closed, epoch, record, cursor, complete })
}

/// epoch u32 | interval u32.
pub(crate) fn encode_stamp(stamp: Stamp, to: &mut Writer<'_>) {
    to.u32(stamp.epoch.value());
    to.u32(stamp.interval.value());
}

pub(crate) fn decode_stamp(from: &mut Reader<'_>) -> Option<Stamp> {
    Some(Stamp::new(Epoch::new(from.u32()?), Interval::new(from.u32()?)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An image with every field set, distinct by `seed`.
    pub(crate) fn sample(seed: u8, record_len: usize) -> ImageMeta {
        ImageMeta {
            id: ImageId::from_bytes([seed; 16]),
            segment: SegmentId::from_bytes([seed ^ 1; 16]),
            volume: VolumeId::from_bytes([seed ^ 2; 16]),
            layer: LayerId::from_bytes([seed ^ 3; 16]),
            parent: (seed & 1 != 0).then_some(LayerId::from_bytes([seed ^ 4; 16])),
            size: Bytes::mib(u64::from(seed) + 1),
            phase: if seed & 2 != 0 { ImagePhase::Deleting } else { ImagePhase::Ready },
            closed: Stamp::new(Epoch::new(7), Interval::new(8)),
            epoch: Epoch::new(9),
            record: vec![seed; record_len],
            cursor: (seed & 4 != 0).then_some(Extent(10)),
            complete: Stamp::new(Epoch::new(11), Interval::new(12)),
        }
    }

    #[test]
    fn an_image_reads_back_whatever_it_has() {
        for seed in 0..8 {
            for record_len in [0, 1, SEGMENT_RECORD_BYTES_MAX] {
                let meta = sample(seed, record_len);
                let mut bytes = vec![0; encoded_len(&meta)];
                let mut to = Writer::new(&mut bytes);
                encode(&meta, &mut to);
                assert_eq!(to.at(), bytes.len());
                let mut from = Reader::new(&bytes);
                assert_eq!(decode(&mut from), Some(meta));
                assert!(from.is_empty());
            }
        }
    }
}
