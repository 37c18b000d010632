//! Short plays on a disk that can hold back, fail and forget, and an L that survives the process.

mod cast;
mod checkpoint;
mod delete;
mod life;
mod poison;
mod recent;
mod resync;
mod space;
mod suspect;
