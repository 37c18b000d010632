use dyad_units::{Epoch, Interval, Stamp};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::entry::Slot;
use crate::format::image::SEGMENT_RECORD_BYTES_MAX;
use crate::format::image::tests::sample;

const DISK: DiskId = DiskId::from_bytes([7; 16]);
const PAGE: PageNo = PageNo(41);

fn page(owner: PageOwner, body: impl FnOnce(&mut [u8])) -> [u8; PAGE_BYTES] {
    let mut bytes = [0xee; PAGE_BYTES];
    encode(&mut bytes, DISK, PAGE, owner, 99, body);
    bytes
}

fn leaf() -> Leaf {
    std::array::from_fn(|at| {
        let mut entry = Entry::ABSENT;
        if at % 3 != 0 {
            entry.place(Slot(at as u32), at as u64 * 1000);
            entry.set_written(u64::MAX / (at as u64 + 1));
        }
        entry.set_stamp(Stamp::new(Epoch::new(at as u32), Interval::new(5)));
        entry
    })
}

#[test]
fn a_map_page_reads_back() {
    let owner = PageOwner::Map { layer: LayerNo(3), index: 4 };
    let bytes = page(owner, |body| encode_leaf(&leaf(), body));
    let view = decode(&bytes, DISK, PAGE).unwrap();
    assert_eq!((view.owner, view.seq), (owner, 99));
    assert_eq!(decode_leaf(view.body), Some(leaf()));
}

#[test]
fn a_region_log_reads_back_over_several_pages() {
    let marks: Vec<u64> = (0..MARK_WORDS as u64 + 10).map(|at| at * 0x0101_0101).collect();
    let marked = |first: usize| {
        let all = (first..marks.len() * 64).filter(|at| marks[at / 64] >> (at % 64) & 1 == 1);
        all.map(move |at| at - first)
    };
    let mut back = vec![0; marks.len()];
    for index in 0..2 {
        let first = index as usize * MARKS_PER_PAGE;
        let bytes = page(PageOwner::Marks { image: ImageNo(1), index }, |body| encode_marks(marked(first), body));
        decode_marks(decode(&bytes, DISK, PAGE).unwrap().body, index, &mut back).unwrap();
    }
    assert_eq!(back, marks);
    let full = [0xff; BODY_BYTES];
    assert_eq!(decode_marks(&full, 1, &mut back), None, "marks beyond the image's size");
}

#[test]
fn the_longest_image_and_a_directory_read_back() {
    let meta = sample(7, SEGMENT_RECORD_BYTES_MAX);
    let bytes = page(PageOwner::Image { image: ImageNo(1) }, |body| {
        encode_image((ImageNo(1), LayerNo(2)), &meta, true, false, body);
    });
    let back = decode_image(decode(&bytes, DISK, PAGE).unwrap().body);
    assert_eq!(back, Some(ImagePage { image: ImageNo(1), layer: LayerNo(2), state_mark: true, suspect: false, meta }));

    let owner = |at: usize| at.is_multiple_of(2).then_some(PageOwner::Map { layer: LayerNo(5), index: at as u32 });
    let used = (0..DIRECTORY_ENTRIES).filter_map(|at| Some((at, owner(at)?)));
    let bytes = page(PageOwner::Directory { index: 0 }, |body| encode_directory(used, 77, 13, body));
    let back = decode_directory(decode(&bytes, DISK, PAGE).unwrap().body).unwrap();
    assert_eq!((back.alloc_next, back.image_next), (77, 13));
    assert_eq!(back.owners, (0..DIRECTORY_ENTRIES).map(owner).collect::<Vec<_>>());
}

#[test]
fn a_page_of_another_disk_or_another_number_is_no_page() {
    let bytes = page(PageOwner::Directory { index: 0 }, |_| {});
    assert!(decode(&bytes, DISK, PAGE).is_some());
    assert!(decode(&bytes, DiskId::from_bytes([8; 16]), PAGE).is_none());
    assert!(decode(&bytes, DISK, PageNo(42)).is_none());
    assert!(decode(&bytes[..4095], DISK, PAGE).is_none());
    assert!(decode(&[0; PAGE_BYTES], DISK, PAGE).is_none());
}

#[test]
fn every_flipped_bit_of_a_page_is_noticed() {
    let bytes = page(PageOwner::Map { layer: LayerNo(3), index: 4 }, |body| encode_leaf(&leaf(), body));
    for at in 0..PAGE_BYTES {
        let mut bad = bytes;
        bad[at] ^= 1 << (at % 8);
        assert!(decode(&bad, DISK, PAGE).is_none(), "byte {at}");
    }
}

/// A5: a page torn at any sector is not taken for either version.
#[test]
fn a_page_torn_at_any_sector_is_no_page() {
    let old = page(PageOwner::Marks { image: ImageNo(1), index: 0 }, |body| body.fill(0x11));
    let new = page(PageOwner::Marks { image: ImageNo(1), index: 0 }, |body| body.fill(0x12));
    for cut in (512..PAGE_BYTES).step_by(512) {
        let mut torn = old;
        torn[..cut].copy_from_slice(&new[..cut]);
        assert!(decode(&torn, DISK, PAGE).is_none(), "cut at {cut}");
    }
}

fn owner() -> impl Strategy<Value = Option<PageOwner>> {
    prop_oneof![
        Just(None),
        any::<u32>().prop_map(|index| Some(PageOwner::Directory { index })),
        any::<u32>().prop_map(|image| Some(PageOwner::Image { image: ImageNo(image) })),
        any::<(u32, u32)>().prop_map(|(image, index)| Some(PageOwner::Marks { image: ImageNo(image), index })),
        any::<(u32, u32)>().prop_map(|(layer, index)| Some(PageOwner::Map { layer: LayerNo(layer), index })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn owners_read_back(owner in owner()) {
        let mut bytes = [0; OWNER_BYTES];
        encode_owner(owner, &mut Writer::new(&mut bytes));
        prop_assert_eq!(decode_owner(&mut Reader::new(&bytes)), Some(owner));
    }

    #[test]
    fn arbitrary_bodies_do_no_harm(
        body in proptest::collection::vec(prop_oneof![3 => 0..3_u8, 1 => any::<u8>()], 0..BODY_BYTES + 2),
        index in any::<u32>(),
    ) {
        let mut marks = [0; 600];
        prop_assert!(decode(&body, DISK, PAGE).is_none());
        decode_leaf(&body);
        decode_image(&body);
        decode_directory(&body);
        decode_marks(&body, index, &mut marks);
    }
}
