//! Counters for people, which are no part of a state: two machines that differ in nothing else are the same.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Counters that `Debug` does not show: the model checker takes what a machine shows for its state.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally<T>(T);

impl<T> Deref for Tally<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Tally<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> fmt::Debug for Tally<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tally")
    }
}
