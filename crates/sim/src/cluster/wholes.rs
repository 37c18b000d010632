//! What atomic writes wrote (M21): as long as nobody wrote there since, all of it is there or none.

use crate::pattern::Value;
use crate::rng::Rng;

/// So many are remembered.
const WHOLES_MAX: usize = 32;
/// Those that a host had under way at once, when it heard no answer any more.
const LAST: usize = 4;

#[derive(Debug)]
struct Whole {
    first: u64,
    values: Vec<Value>,
    /// It was not answered: some of it may be there.
    is_open: bool,
}

impl Whole {
    fn end(&self) -> u64 {
        self.first + self.values.len() as u64
    }
}

/// The last atomic writes of a volume that nobody wrote over.
#[derive(Debug, Default)]
pub(super) struct Wholes(Vec<Whole>);

impl Wholes {
    /// One begins; whether it ends well or not, nobody has seen a part of it ever after.
    pub(super) fn begin(&mut self, first: u64, values: &[Value]) {
        if self.0.len() == WHOLES_MAX {
            let oldest = self.0.iter().position(|whole| !whole.is_open).unwrap_or(0);
            self.0.remove(oldest);
        }
        self.0.push(Whole { first, values: values.to_vec(), is_open: true });
    }

    /// One was answered.
    pub(super) fn answered(&mut self, first: u64, values: &[Value]) {
        let is_it = |whole: &&mut Whole| whole.first == first && whole.values == values;
        self.0.iter_mut().filter(is_it).for_each(|whole| whole.is_open = false);
    }

    /// Somebody begins to write there: what is there from now on may be his.
    pub(super) fn overwrite(&mut self, first: u64, count: u64) {
        self.0.retain(|whole| whole.end() <= first || first + count <= whole.first);
    }

    /// One of them, most of the time one of the last without answer: first block and count.
    pub(super) fn any(&self, rng: &mut Rng) -> Option<(u64, u64)> {
        let open = self.0.iter().rev().filter(|whole| whole.is_open).nth(rng.index(LAST));
        let whole = open.filter(|_| rng.chance(7, 8)).or_else(|| self.0.get(rng.index(self.0.len().max(1))))?;
        Some((whole.first, whole.values.len() as u64))
    }

    /// A read showed this.
    pub(super) fn judge(&self, first: u64, seen: &[Value]) -> Result<(), String> {
        for whole in &self.0 {
            let blocks = whole.first.max(first)..whole.end().min(first + seen.len() as u64);
            let sectors = |block: u64| {
                let (is, meant) = (seen[(block - first) as usize], whole.values[(block - whole.first) as usize]);
                is.sectors().zip(meant.sectors())
            };
            let mut parts = blocks.clone().flat_map(sectors).map(|(is, meant)| is == meant);
            let Some(is_there) = parts.next() else { continue };
            if parts.any(|is_new| is_new != is_there) {
                let (from, to) = (blocks.start, blocks.end - 1);
                return Err(format!(
                    "blocks {from}..={to} show a part of {}, which was written atomically (M21)",
                    whole.values[0]
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Wholes;
    use crate::pattern::Value;

    #[test]
    fn a_part_of_one_is_found_until_somebody_writes_there() {
        let (new, old) = (Value::of(7), Value::of(3));
        let mut wholes = Wholes::default();
        wholes.begin(10, &[new; 3]);
        assert!(wholes.judge(0, &[old; 10]).is_ok());
        assert!(wholes.judge(9, &[old, new, new, new, old]).is_ok());
        assert!(wholes.judge(9, &[old; 5]).is_ok());
        assert!(wholes.judge(11, &[new, old]).is_err());
        let half = old.with_sectors(0, 3, 7);
        assert!(wholes.judge(10, &[half, new, new]).is_err() && wholes.judge(10, &[half, old, old]).is_err());
        wholes.overwrite(12, 4);
        assert!(wholes.judge(11, &[new, old]).is_ok());
    }
}
