//! The pool's crash tests (design section 10, part 3): one program, so that they share a fixture and are linked once.

mod campaign;
mod common;
mod faults;
mod format;
mod full;
mod marks;
mod power_cut;
mod process_crash;
mod resync;
mod rot;
mod slots;
