//! Every byte on disk and in L. `docs/on-disk-format.md` is the reference; this is the code.

pub(crate) mod bytes;
pub(crate) mod change;
pub(crate) mod image;
pub(crate) mod journal;
pub(crate) mod layout;
pub(crate) mod load;
pub(crate) mod page;
pub(crate) mod recent;
pub(crate) mod state;
pub(crate) mod superblock;
pub(crate) mod table;
