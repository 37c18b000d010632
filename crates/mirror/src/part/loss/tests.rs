use dyad_units::Span;

use super::{LOSS_RANGES_MAX, LossRanges};

fn span(offset: u64, len: u64) -> Span {
    Span::new(offset, len).unwrap()
}

/// Bounded by a name; what is not named is counted all the same.
#[test]
fn ranges_are_joined_and_cut_but_their_bytes_are_exact() {
    let mut ranges = LossRanges::default();
    for at in 0..LOSS_RANGES_MAX as u64 {
        ranges.push(span(at * 16384, 4096));
        ranges.push(span(at * 16384 + 4096, 4096));
    }
    assert_eq!((ranges.ranges.len(), ranges.is_cut), (LOSS_RANGES_MAX, false));
    assert_eq!(ranges.ranges[1], span(16384, 8192));
    let last = *ranges.ranges.last().unwrap();
    ranges.push(span(1 << 40, 4096));
    ranges.push(span(last.end(), 4096));
    assert!(ranges.is_cut);
    assert_eq!(ranges.ranges.last(), Some(&last), "nothing is joined behind a gap");
    assert_eq!(ranges.bytes.value(), LOSS_RANGES_MAX as u64 * 8192 + 8192);
}
