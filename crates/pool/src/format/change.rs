//! Changes as they stand in a journal record: a tag, then fields in order.

use dyad_units::{Extent, Region};

use crate::entry::{ENTRY_BYTES, Entry};
use crate::format::bytes::{Reader, Writer};
use crate::format::image;
use crate::format::page::{OWNER_BYTES, decode_owner, encode_owner};
use crate::format::state::{Change, ImageNo, LayerNo, PageNo};

const MAP: u8 = 1;
const MARK: u8 = 2;
const IMAGE: u8 = 3;
const CLOSED: u8 = 4;
const IMAGE_GONE: u8 = 5;
const PAGE: u8 = 6;
const ALLOCATIONS: u8 = 7;
const SUSPECT: u8 = 8;

/// Bytes that [`encode`] puts.
pub(crate) fn encoded_len(change: &Change) -> usize {
    1 + match change {
        Change::Map { .. } => 8 + ENTRY_BYTES,
        Change::Mark { .. } => 9,
        Change::Image { meta, .. } => 8 + image::encoded_len(meta),
        Change::Closed { .. } => 12,
        Change::ImageGone { .. } => 4,
        Change::Page { .. } => 4 + OWNER_BYTES,
        Change::Allocations { .. } => 8,
        Change::Suspect { .. } => 5,
    }
}

/// Puts a change.
pub(crate) fn encode(change: &Change, to: &mut Writer<'_>) {
    match change {
        Change::Map { layer, extent, entry } => {
            to.u8(MAP);
            to.u32(layer.0);
            to.u32(extent.0);
            let mut bytes = [0; ENTRY_BYTES];
            entry.encode(&mut bytes);
            to.bytes(&bytes);
        }
        Change::Mark { image, region, marked } => {
            to.u8(MARK);
            to.u32(image.0);
            to.u32(region.0);
            to.u8(u8::from(*marked));
        }
        Change::Image { image, layer, meta } => {
            to.u8(IMAGE);
            to.u32(image.0);
            to.u32(layer.0);
            image::encode(meta, to);
        }
        Change::Closed { image, stamp } => {
            to.u8(CLOSED);
            to.u32(image.0);
            image::encode_stamp(*stamp, to);
        }
        Change::ImageGone { image } => {
            to.u8(IMAGE_GONE);
            to.u32(image.0);
        }
        Change::Page { page, owner } => {
            to.u8(PAGE);
            to.u32(page.0);
            encode_owner(Some(*owner), to);
        }
        Change::Allocations { next } => {
            to.u8(ALLOCATIONS);
            to.u64(*next);
        }
        Change::Suspect { image, suspect } => {
            to.u8(SUSPECT);
            to.u32(image.0);
            to.u8(u8::from(*suspect));
        }
    }
}

/// Takes a change; `None` if none looks like this.
pub(crate) fn decode(from: &mut Reader<'_>) -> Option<Change> {
    Some(match from.u8()? {
        MAP => {
            let (layer, extent) = (LayerNo(from.u32()?), Extent(from.u32()?));
            Change::Map { layer, extent, entry: Entry::decode(&from.array()?)? }
        }
        MARK => {
            let (image, region) = (ImageNo(from.u32()?), Region(from.u32()?));
            Change::Mark { image, region, marked: from.flag()? }
        }
        IMAGE => {
            let (image, layer) = (ImageNo(from.u32()?), LayerNo(from.u32()?));
            Change::Image { image, layer, meta: Box::new(image::decode(from)?) }
        }
        CLOSED => Change::Closed { image: ImageNo(from.u32()?), stamp: image::decode_stamp(from)? },
        IMAGE_GONE => Change::ImageGone { image: ImageNo(from.u32()?) },
        PAGE => Change::Page { page: PageNo(from.u32()?), owner: decode_owner(from)?? },
        ALLOCATIONS => Change::Allocations { next: from.u64()? },
        SUSPECT => Change::Suspect { image: ImageNo(from.u32()?), suspect: from.flag()? },
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use dyad_units::{Epoch, Interval, Stamp};
    use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;
    use crate::entry::Slot;
    use crate::format::image::tests::sample;
    use crate::format::state::PageOwner;

    /// Any change.
    pub(crate) fn change() -> impl Strategy<Value = Change> {
        let map = any::<(u32, u32, u32, u64)>().prop_map(|(layer, extent, slot, bits)| {
            let mut entry = Entry::ABSENT;
            entry.place(Slot(slot.min(u32::MAX - 1)), bits >> 16);
            entry.set_written(bits);
            entry.set_stamp(Stamp::new(Epoch::new(slot), Interval::new(extent)));
            Change::Map { layer: LayerNo(layer), extent: Extent(extent), entry }
        });
        prop_oneof![
            4 => map,
            1 => any::<(u32, u32, bool)>().prop_map(|(image, region, marked)| {
                Change::Mark { image: ImageNo(image), region: Region(region), marked }
            }),
            1 => (any::<(u32, u32, u8)>(), 0..4000_usize).prop_map(|((image, layer, seed), len)| {
                let meta = Box::new(sample(seed, len.min(image::SEGMENT_RECORD_BYTES_MAX)));
                Change::Image { image: ImageNo(image), layer: LayerNo(layer), meta }
            }),
            1 => any::<(u32, u32)>().prop_map(|(image, epoch)| {
                Change::Closed { image: ImageNo(image), stamp: Stamp::new(Epoch::new(epoch), Interval::new(7)) }
            }),
            1 => any::<u32>().prop_map(|image| Change::ImageGone { image: ImageNo(image) }),
            1 => any::<(u32, u32, u32)>().prop_map(|(page, layer, index)| {
                Change::Page { page: PageNo(page), owner: PageOwner::Map { layer: LayerNo(layer), index } }
            }),
            1 => any::<u64>().prop_map(|next| Change::Allocations { next }),
            1 => any::<(u32, bool)>().prop_map(|(image, suspect)| Change::Suspect { image: ImageNo(image), suspect }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn changes_read_back(changes in proptest::collection::vec(change(), 0..20)) {
            let len = changes.iter().map(encoded_len).sum();
            let mut bytes = vec![0; len];
            let mut to = Writer::new(&mut bytes);
            changes.iter().for_each(|change| encode(change, &mut to));
            prop_assert_eq!(to.at(), len);
            let mut from = Reader::new(&bytes);
            for change in &changes {
                prop_assert_eq!(decode(&mut from), Some(change.clone()));
            }
            prop_assert_eq!(from.is_empty(), true);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(
            tag in 0..10_u8,
            bytes in proptest::collection::vec(prop_oneof![3 => 0..5_u8, 1 => any::<u8>()], 0..300),
        ) {
            let bytes = [&[tag][..], &bytes].concat();
            let mut from = Reader::new(&bytes);
            while decode(&mut from).is_some() {}
        }
    }
}
