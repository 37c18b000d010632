//! How operations that may block are carried out: io_uring or threads, behind one door.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::ring::Ring;
use super::threads::Threads;
use super::work::{Finished, Job};
use crate::control::BackendInfo;
use crate::settings::BackendChoice;

/// Carries out the operations of all disks of a reactor. Made, used and dropped by the reactor's thread.
pub(super) struct Engine {
    backend: Backend,
    info: BackendInfo,
}

enum Backend {
    Ring(Box<Ring>),
    Threads(Threads),
}

/// Neither way is open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// io_uring was asked for and is not to be had.
    #[error("io_uring cannot be used here; set disk.backend to `auto` or `threads`")]
    NoRing(#[source] io::Error),
    /// Threads need an event descriptor.
    #[error("no event descriptor is left")]
    NoDescriptor(#[source] io::Error),
}

impl Engine {
    /// The engine that the settings ask for.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn new(choice: BackendChoice, threads_per_disk: u32) -> Result<Self, EngineError> {
        let reason = match choice {
            BackendChoice::Threads => "the settings ask for threads".to_owned(),
            BackendChoice::Auto | BackendChoice::IoUring => match Ring::new() {
                Ok(ring) => return Ok(Self { backend: Backend::Ring(Box::new(ring)), info: BackendInfo::IoUring }),
                Err(error) if choice == BackendChoice::IoUring => return Err(EngineError::NoRing(error)),
                Err(error) => format!("io_uring cannot be used: {error}"),
            },
        };
        let threads = Threads::new(threads_per_disk).map_err(EngineError::NoDescriptor)?;
        Ok(Self { backend: Backend::Threads(threads), info: BackendInfo::Threads { reason } })
    }

    /// Which way it goes, for the status.
    pub fn info(&self) -> &BackendInfo {
        &self.info
    }

    /// Readable when something ended.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.backend {
            Backend::Ring(ring) => ring.descriptor(),
            Backend::Threads(threads) => threads.descriptor(),
        }
    }

    /// Operations that have not ended.
    pub fn in_flight(&self) -> usize {
        match &self.backend {
            Backend::Ring(ring) => ring.in_flight(),
            Backend::Threads(threads) => threads.in_flight(),
        }
    }

    /// Makes ready for a disk.
    ///
    /// # Errors
    /// If its threads cannot be started.
    pub fn add_disk(&mut self, disk: u32) -> io::Result<()> {
        match &mut self.backend {
            Backend::Ring(_) => Ok(()),
            Backend::Threads(threads) => threads.add_disk(disk),
        }
    }

    /// The disk has no more operations to come.
    pub fn remove_disk(&mut self, disk: u32) {
        if let Backend::Threads(threads) = &mut self.backend {
            threads.remove_disk(disk);
        }
    }

    /// Takes an operation; it is given back when there is no room now.
    #[allow(clippy::result_large_err, reason = "a box per operation is what this avoids")]
    pub(super) fn start(&mut self, job: Job) -> Result<(), Job> {
        match &mut self.backend {
            Backend::Ring(ring) => ring.start(job),
            Backend::Threads(threads) => threads.start(job),
        }
    }

    /// Hands everything new to the kernel: once per turn of the reactor.
    pub fn flush(&mut self) {
        if let Backend::Ring(ring) = &mut self.backend {
            ring.flush();
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<Finished>) {
        match &mut self.backend {
            Backend::Ring(ring) => ring.finish(out),
            Backend::Threads(threads) => threads.finish(out),
        }
    }

    /// Waits until nothing is in flight or the time is over; whether nothing is.
    pub(super) fn drain(&mut self, timeout: Duration, out: &mut Vec<Finished>) -> bool {
        match &mut self.backend {
            Backend::Ring(ring) => ring.drain(timeout, out),
            Backend::Threads(threads) => threads.drain(timeout, out),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({:?}, {} in flight)", self.info, self.in_flight())
    }
}
