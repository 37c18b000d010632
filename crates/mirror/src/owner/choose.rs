//! Which image's block is right after a crash (P8): a pure table.

use dyad_contract::image::{BlockState, Examined};

use crate::owner::event::ImageIndex;
use crate::owner::images::Images;

/// What becomes of a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// All images have the same; nothing to do.
    Equal,
    /// No image can read it; reads of it are medium errors, a write makes it good again.
    Hopeless,
    /// It is unwritten: the others unmap it.
    Unwritten,
    /// This image's data is right: the others take it.
    Data(ImageIndex),
    /// Nothing verifies, so this image's data is believed and the others take it.
    Adopt(ImageIndex),
}

/// A verdict and the images that have to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    pub(crate) verdict: Verdict,
    pub(crate) mend: Images,
}

/// Nobody is certain of what lies there.
fn is_bad(state: BlockState) -> bool {
    matches!(state, BlockState::Unverified(_) | BlockState::Unreadable)
}

/// As [`choose`], to heal: only images that have the block bad now take it, from one that is certain of it.
pub(crate) fn choose_heal<'a>(found: impl Iterator<Item = (ImageIndex, &'a Examined)> + Clone, at: usize) -> Choice {
    let states = found.map(|(image, examined)| (image, examined.blocks[at]));
    let mend: Images = states.clone().filter(|(_, state)| is_bad(*state)).map(|(image, _)| image).collect();
    match states.clone().find(|(_, state)| !is_bad(*state)) {
        _ if mend.is_empty() => Choice { verdict: Verdict::Equal, mend },
        Some((_, BlockState::Unwritten | BlockState::Missing)) => Choice { verdict: Verdict::Unwritten, mend },
        Some((winner, _)) => Choice { verdict: Verdict::Data(winner), mend },
        None => Choice { verdict: Verdict::Hopeless, mend: Images::NONE },
    }
}

/// As [`choose`], to copy: what the sources have counts, in their order, and the copy takes it if it differs. A block
/// that none of them has for certain becomes bad on the copy too (M15): [`Verdict::Hopeless`] names it.
pub(crate) fn choose_copy<'a>(
    sources: impl Iterator<Item = (ImageIndex, &'a Examined)>,
    (copy, has): (ImageIndex, &Examined),
    at: usize,
) -> Choice {
    let (has, mend) = (has.blocks[at], Images::one(copy));
    let found = sources.map(|(image, examined)| (image, examined.blocks[at])).find(|(_, state)| !is_bad(*state));
    match found {
        Some((_, state)) if state == has => Choice { verdict: Verdict::Equal, mend: Images::NONE },
        Some((_, BlockState::Unwritten | BlockState::Missing)) => Choice { verdict: Verdict::Unwritten, mend },
        Some((source, _)) => Choice { verdict: Verdict::Data(source), mend },
        None => Choice { verdict: Verdict::Hopeless, mend },
    }
}

/// Judges block `at` by what each image found, in the record's order: the first that is certain wins (its data verifies, or
/// it was never written), else whoever misses a write, so that it never came, else the first that can be read at all.
pub(crate) fn choose<'a>(found: impl Iterator<Item = (ImageIndex, &'a Examined)> + Clone, at: usize) -> Choice {
    let states = found.map(|(image, examined)| (image, examined.blocks[at]));
    let certain = states.clone().find(|(_, state)| matches!(state, BlockState::Verified(_) | BlockState::Unwritten));
    let missing = || states.clone().find(|(_, state)| *state == BlockState::Missing);
    let readable = || states.clone().find(|(_, state)| matches!(state, BlockState::Unverified(_)));
    let Some((winner, state)) = certain.or_else(missing).or_else(readable) else {
        return Choice { verdict: Verdict::Hopeless, mend: Images::NONE };
    };
    // The sum of an adopted block is only what lies there now, so every other image takes it afresh.
    let never_came = |state| if state == BlockState::Missing { BlockState::Unwritten } else { state };
    let differs = |other| never_came(other) != never_came(state) || matches!(state, BlockState::Unverified(_));
    let mend: Images =
        states.filter(|&(image, other)| image != winner && differs(other)).map(|(image, _)| image).collect();
    let verdict = match state {
        BlockState::Unverified(_) => Verdict::Adopt(winner),
        _ if mend.is_empty() => Verdict::Equal,
        BlockState::Unwritten | BlockState::Missing => Verdict::Unwritten,
        BlockState::Verified(_) | BlockState::Unreadable => Verdict::Data(winner),
    };
    Choice { verdict, mend }
}

#[cfg(test)]
mod tests {
    use dyad_contract::image::BlockState::{self, Missing, Unreadable, Unverified, Unwritten, Verified};
    use dyad_contract::image::Examined;
    use dyad_payload::BlockSum;
    use dyad_units::Stamp;

    use super::Verdict::{Adopt, Data, Equal, Hopeless};
    use super::{Choice, Verdict, choose, choose_copy, choose_heal};
    use crate::owner::event::ImageIndex;
    use crate::owner::images::Images;

    /// P14: a heal rewrites what is bad from what is certain; it believes nothing and touches nothing good.
    #[test]
    fn a_heal_touches_only_what_is_bad() {
        let v = |sum| Verified(BlockSum(sum));
        let u = |sum| Unverified(BlockSum(sum));
        let table: [(BlockState, BlockState, Verdict, &[u8]); 10] = [
            (v(1), v(1), Equal, &[]),
            (v(1), v(2), Equal, &[]),
            (u(1), v(2), Data(ImageIndex(1)), &[0]),
            (v(1), Unreadable, Data(ImageIndex(0)), &[1]),
            (u(1), Unwritten, Verdict::Unwritten, &[0]),
            (Unwritten, Unwritten, Equal, &[]),
            (u(1), u(1), Hopeless, &[]),
            (Unreadable, u(1), Hopeless, &[]),
            (Missing, v(1), Equal, &[]),
            (Missing, Unreadable, Verdict::Unwritten, &[1]),
        ];
        judge(&table, |found| choose_heal(found, 7));
    }

    /// P8: an unverified block takes any in-sync image's verified one; what none can verify is adopted.
    #[test]
    fn the_first_certain_state_wins_and_only_then_something_is_believed() {
        let v = |sum| Verified(BlockSum(sum));
        let u = |sum| Unverified(BlockSum(sum));
        let (first, second) = (ImageIndex(0), ImageIndex(1));
        let table: [(BlockState, BlockState, Verdict, &[u8]); 21] = [
            (v(1), v(1), Equal, &[]),
            (v(1), v(2), Data(first), &[1]),
            (v(1), u(1), Data(first), &[1]), // the table of the second is not to be trusted
            (v(1), Unwritten, Data(first), &[1]),
            (v(1), Unreadable, Data(first), &[1]),
            (u(1), v(2), Data(second), &[0]),
            (u(1), u(1), Adopt(first), &[1]),
            (u(1), u(2), Adopt(first), &[1]),
            (u(1), Unwritten, Verdict::Unwritten, &[0]),
            (u(1), Unreadable, Adopt(first), &[1]),
            (Unwritten, v(2), Verdict::Unwritten, &[1]),
            (Unwritten, Unwritten, Equal, &[]),
            (Unreadable, v(2), Data(second), &[0]),
            (Unreadable, u(2), Adopt(second), &[0]),
            (Unreadable, Unreadable, Hopeless, &[]),
            (Missing, v(2), Data(second), &[0]),
            (v(1), Missing, Data(first), &[1]),
            (Missing, Unwritten, Equal, &[]),
            (Missing, Missing, Equal, &[]),
            (Missing, u(2), Verdict::Unwritten, &[1]),
            (Unreadable, Missing, Verdict::Unwritten, &[0]),
        ];
        judge(&table, |found| choose(found, 7));
    }

    /// M14, M15: the copy takes what a source is certain of; what it has itself never counts.
    #[test]
    fn a_copy_takes_what_a_source_is_certain_of() {
        let v = |sum| Verified(BlockSum(sum));
        let u = |sum| Unverified(BlockSum(sum));
        let (first, second, copy) = (ImageIndex(0), ImageIndex(1), ImageIndex(2));
        let table = [
            (v(1), v(1), v(1), Equal),
            (v(1), v(1), v(2), Data(first)),
            (v(1), v(1), u(1), Data(first)), // unverified means "differs" (P8)
            (v(1), v(1), Unwritten, Data(first)),
            (Unwritten, Unwritten, Unwritten, Equal),
            (Unwritten, Unwritten, v(3), Verdict::Unwritten),
            (u(1), v(2), v(3), Data(second)),
            (Unreadable, v(2), v(2), Equal),
            (Unreadable, u(2), v(2), Hopeless),
        ];
        for (a, b, has, verdict) in table {
            let [a, b, has] = [a, b, has].map(|state| Examined { stamp: Stamp::NEWEST, blocks: [state; 64] });
            let choice = choose_copy([(first, &a), (second, &b)].into_iter(), (copy, &has), 7);
            let mend = if verdict == Equal { Images::NONE } else { Images::one(copy) };
            assert_eq!(choice, Choice { verdict, mend }, "{a:?} {b:?} {has:?}");
        }
    }

    type Found<'a> = std::vec::IntoIter<(ImageIndex, &'a Examined)>;

    fn judge(table: &[(BlockState, BlockState, Verdict, &[u8])], choose: impl Fn(Found<'_>) -> Choice) {
        for &(a, b, verdict, mend) in table {
            let found = [a, b].map(|state| Examined { stamp: Stamp::NEWEST, blocks: [state; 64] });
            let found: Vec<_> = found.iter().enumerate().map(|(at, found)| (ImageIndex(at as u8), found)).collect();
            let mend: Images = mend.iter().map(|&at| ImageIndex(at)).collect();
            assert_eq!(choose(found.into_iter()), Choice { verdict, mend }, "{a:?} against {b:?}");
        }
    }
}
