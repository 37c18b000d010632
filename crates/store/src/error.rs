//! Why a store's file cannot be opened.

use std::io;
use std::path::PathBuf;

/// The store's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error("the config store {} is in use by another process: is this node running already?", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Its bytes are not what was written.
    #[error("the config store {} is damaged: restore it from a copy ({reason})", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Written by newer software.
    #[error("the config store {} has format {found}, this software knows {known}: use the newer software", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// The file system said no.
    #[error("the config store {} cannot be opened", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
