//! Proof of the pool: disks that fail, a model of what may be read afterwards, and runs that one seed
//! reproduces (design section 10).

pub mod model;
pub mod pattern;
pub mod rng;
