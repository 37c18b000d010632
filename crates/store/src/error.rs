//! Why a store's file cannot be opened.

use std::io;
use std::net::SocketAddr;
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

/// A config store cannot be used, or served, as it is set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The certificate is of a node that is of the cluster no more.
    #[error("the certificate is of a node that was removed from the cluster")]
    Removed,
    /// Certificates or key cannot be used.
    #[error("the certificates for the config store cannot be used: {reason}")]
    Tls {
        /// What is wrong with them.
        reason: String,
    },
    /// Without TLS only the same machine is reached.
    #[error("{address} is not on this machine: without TLS a config store is used on loopback only")]
    Plain {
        /// The address.
        address: String,
    },
    /// No address was given, or it is none.
    #[error("`{address}` is not an address of a config store")]
    Address {
        /// What was given.
        address: String,
    },
    /// The address cannot be listened at.
    #[error("the arbiter cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The machine gives no thread.
    #[error("no thread can be started for the config store")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}
