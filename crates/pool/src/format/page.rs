//! Metadata pages: a header that says what it is, and one of four bodies.
//!
//! Each page has two homes with the same content at rest; the newer valid one counts. The directory pages
//! come first and name the owner of every page, so that a page that should be there is missed (P1).

use dyad_units::DiskId;

use crate::entry::{ENTRY_BYTES, Entry};
use crate::format::bytes::{Reader, Writer, crc};
use crate::format::image;
use crate::format::state::{ImageMeta, ImageNo, LayerNo, PageNo, PageOwner};
use crate::map::{LEAF_ENTRIES, Leaf};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of its header.
const HEADER_BYTES: usize = 64;
/// Bytes of its body.
pub(crate) const BODY_BYTES: usize = PAGE_BYTES - HEADER_BYTES;
const MAGIC: u32 = u32::from_le_bytes(*b"DyPg");
/// magic u32 | kind u8 | 0 [3] | number u32 | index u32 | page u32 | 0 u32 | seq u64 | crc u64 | 0 [24].
const CRC_AT: usize = 32;
const CRC_END: usize = CRC_AT + 8;

/// Owners named by one directory page.
pub(crate) const DIRECTORY_ENTRIES: usize = 335;
/// kind u8 | 0 [3] | number u32 | index u32.
pub(crate) const OWNER_BYTES: usize = 12;
/// Within the body of a directory page, behind the two counters.
const OWNERS_AT: usize = 12;
/// Words of one page of a region log.
pub(crate) const MARK_WORDS: usize = BODY_BYTES / 8;
/// Regions of one page of a region log (P5).
pub(crate) const MARKS_PER_PAGE: usize = MARK_WORDS * 64;

const _: () = assert!(LEAF_ENTRIES as usize * ENTRY_BYTES == BODY_BYTES);
const _: () = assert!(OWNERS_AT + DIRECTORY_ENTRIES * OWNER_BYTES <= BODY_BYTES);
const _: () = assert!(MARK_WORDS * 8 == BODY_BYTES);

/// A whole page, as found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageView<'a> {
    /// What it holds.
    pub(crate) owner: PageOwner,
    /// Every journal record up to this one is contained.
    pub(crate) seq: u64,
    /// To be decoded according to the owner.
    pub(crate) body: &'a [u8],
}

/// Fills `to`, of [`PAGE_BYTES`]. The body is zero before `body` fills it.
pub(crate) fn encode(
    to: &mut [u8],
    disk: DiskId,
    page: PageNo,
    owner: PageOwner,
    seq: u64,
    body: impl FnOnce(&mut [u8]),
) {
    let to = to.first_chunk_mut::<PAGE_BYTES>().expect("a page");
    to.fill(0);
    let mut header = Writer::new(&mut to[..HEADER_BYTES]);
    header.u32(MAGIC);
    encode_owner(Some(owner), &mut header);
    header.u32(page.0);
    header.u32(0);
    header.u64(seq);
    body(&mut to[HEADER_BYTES..]);
    let sum = crc(disk.to_bytes(), &[&to[..CRC_AT], &to[CRC_END..]]);
    to[CRC_AT..CRC_END].copy_from_slice(&sum.to_le_bytes());
}

/// The page in `from`; `None` if it is not whole, of another disk, or not number `page`.
pub(crate) fn decode(from: &[u8], disk: DiskId, page: PageNo) -> Option<PageView<'_>> {
    let from: &[u8; PAGE_BYTES] = from.try_into().ok()?;
    let mut header = Reader::new(from);
    if header.u32()? != MAGIC {
        return None;
    }
    let owner = decode_owner(&mut header)??;
    let (number, _, seq, sum) = (header.u32()?, header.u32()?, header.u64()?, header.u64()?);
    if number != page.0 || sum != crc(disk.to_bytes(), &[&from[..CRC_AT], &from[CRC_END..]]) {
        return None;
    }
    Some(PageView { owner, seq, body: &from[HEADER_BYTES..] })
}

const FREE: u8 = 0;
const DIRECTORY: u8 = 1;
const IMAGE: u8 = 2;
const MARKS: u8 = 3;
const MAP: u8 = 4;

/// Puts [`OWNER_BYTES`]; `None` stands for a free page.
pub(crate) fn encode_owner(owner: Option<PageOwner>, to: &mut Writer<'_>) {
    let (kind, number, index) = match owner {
        None => (FREE, 0, 0),
        Some(PageOwner::Directory { index }) => (DIRECTORY, 0, index),
        Some(PageOwner::Image { image }) => (IMAGE, image.0, 0),
        Some(PageOwner::Marks { image, index }) => (MARKS, image.0, index),
        Some(PageOwner::Map { layer, index }) => (MAP, layer.0, index),
    };
    to.bytes(&[kind, 0, 0, 0]);
    to.u32(number);
    to.u32(index);
}

/// Takes an owner, `Some(None)` for a free page; `None` if no owner looks like this.
pub(crate) fn decode_owner(from: &mut Reader<'_>) -> Option<Option<PageOwner>> {
    let [kind, 0, 0, 0] = from.array()? else { return None };
    let (number, index) = (from.u32()?, from.u32()?);
    Some(match (kind, number, index) {
        (FREE, 0, 0) => None,
        (DIRECTORY, 0, index) => Some(PageOwner::Directory { index }),
        (IMAGE, image, 0) => Some(PageOwner::Image { image: ImageNo(image) }),
        (MARKS, image, index) => Some(PageOwner::Marks { image: ImageNo(image), index }),
        (MAP, layer, index) => Some(PageOwner::Map { layer: LayerNo(layer), index }),
        _ => return None,
    })
}

/// Fills the body of a map page.
pub(crate) fn encode_leaf(leaf: &Leaf, body: &mut [u8]) {
    for (entry, bytes) in leaf.iter().zip(body.chunks_exact_mut(ENTRY_BYTES)) {
        entry.encode(bytes.first_chunk_mut().expect("chunks of an entry"));
    }
}

/// The entries of a map page.
pub(crate) fn decode_leaf(body: &[u8]) -> Option<Leaf> {
    let mut leaf = [Entry::ABSENT; LEAF_ENTRIES as usize];
    let (chunks, []) = body.as_chunks::<ENTRY_BYTES>() else { return None };
    if chunks.len() != leaf.len() {
        return None;
    }
    for (entry, bytes) in leaf.iter_mut().zip(chunks) {
        *entry = Entry::decode(bytes)?;
    }
    Some(leaf)
}

/// Fills the zeroed body of a part of a region log: `marked` tells its marked regions, counted from the first
/// of this part; those beyond it are another part's.
pub(crate) fn encode_marks(marked: impl IntoIterator<Item = usize>, body: &mut [u8]) {
    for at in marked.into_iter().filter(|&at| at < MARKS_PER_PAGE) {
        body[at / 8] |= 1 << (at % 8);
    }
}

/// Puts part `index` of a region log into `marks`, which holds all words. `None` if a region beyond them is
/// marked.
pub(crate) fn decode_marks(body: &[u8], index: u32, marks: &mut [u64]) -> Option<()> {
    let (words, []) = body.as_chunks::<8>() else { return None };
    let first = (index as usize).checked_mul(MARK_WORDS)?;
    for (at, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        match marks.get_mut(first + at) {
            Some(to) => *to = word,
            None if word == 0 => {}
            None => return None,
        }
    }
    Some(())
}

/// What an image page says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ImagePage {
    pub(crate) image: ImageNo,
    pub(crate) layer: LayerNo,
    /// The mark of the state extent's region.
    pub(crate) state_mark: bool,
    /// Marked regions are still to be compared (P8, M11).
    pub(crate) suspect: bool,
    pub(crate) meta: ImageMeta,
}

/// Fills the body of an image page.
pub(crate) fn encode_image(
    (image, layer): (ImageNo, LayerNo),
    meta: &ImageMeta,
    state_mark: bool,
    suspect: bool,
    body: &mut [u8],
) {
    let mut to = Writer::new(body);
    to.u32(image.0);
    to.u32(layer.0);
    to.u8(u8::from(state_mark));
    to.u8(u8::from(suspect));
    image::encode(meta, &mut to);
}

/// What an image page says.
pub(crate) fn decode_image(body: &[u8]) -> Option<ImagePage> {
    let mut from = Reader::new(body);
    let (image, layer) = (ImageNo(from.u32()?), LayerNo(from.u32()?));
    let (state_mark, suspect) = (from.flag()?, from.flag()?);
    Some(ImagePage { image, layer, state_mark, suspect, meta: image::decode(&mut from)? })
}

/// What a directory page says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DirectoryPage {
    /// Every allocation number handed out when the page was written is below this; the highest of all
    /// directory pages counts.
    pub(crate) alloc_next: u64,
    /// The same for numbers of images and layers.
    pub(crate) image_next: u32,
    /// Owner of each page, [`DIRECTORY_ENTRIES`] of them.
    pub(crate) owners: Vec<Option<PageOwner>>,
}

/// Fills the zeroed body of a directory page: `owners` tells those of its pages that are in use, counted from
/// its first.
pub(crate) fn encode_directory(
    owners: impl IntoIterator<Item = (usize, PageOwner)>,
    alloc_next: u64,
    image_next: u32,
    body: &mut [u8],
) {
    let mut to = Writer::new(body);
    to.u64(alloc_next);
    to.u32(image_next);
    for (at, owner) in owners {
        encode_owner(Some(owner), &mut Writer::new(&mut body[OWNERS_AT + at * OWNER_BYTES..][..OWNER_BYTES]));
    }
}

/// What a directory page says.
pub(crate) fn decode_directory(body: &[u8]) -> Option<DirectoryPage> {
    let mut from = Reader::new(body);
    let (alloc_next, image_next) = (from.u64()?, from.u32()?);
    let owners = (0..DIRECTORY_ENTRIES).map(|_| decode_owner(&mut from)).collect::<Option<_>>()?;
    Some(DirectoryPage { alloc_next, image_next, owners })
}

#[cfg(test)]
mod tests;
