//! The data reactor: one thread that carries every command from its socket to the disks and back.
//!
//! ```text
//!          +------------------------------ turn ------------------------------+
//!  epoll ->| sockets -> conns -> command -> volumes <-> pools <-> disks        |-> one sendmsg per connection,
//!          | mailbox, timers, listeners       (until nothing moves any more)   |   one io_uring submission
//!          +-------------------------------------------------------------------+
//! ```
//!
//! A turn takes what came, lets the rooms act until nothing moves, then sends what is to be sent. Nothing in
//! it waits. A panic while a connection is served closes that connection, one in a volume or a pool takes that
//! one out of use; everybody else goes on.
//!
//! There are no globals: several reactors can live side by side, each with volumes and pools of its own.

mod adjust;
mod command;
mod conns;
mod copy;
mod errand;
mod export_ops;
mod exports;
mod forget;
#[cfg(test)]
mod forget_tests;
#[cfg(test)]
mod held_up_tests;
mod limit;
mod listen;
mod login;
mod look;
mod mailbox;
mod manage;
mod memory;
mod message;
mod ops;
mod overlay;
#[cfg(test)]
mod overlay_tests;
mod paths;
mod peers;
mod pools;
mod pump;
mod redirect;
#[cfg(test)]
mod reset_tests;
mod run;
mod service;
mod shared;
mod snapshot;
mod socket;
mod stop;
#[cfg(test)]
mod stuck_tests;
mod talk;
#[cfg(test)]
mod talk_tests;
#[cfg(test)]
mod tests;
mod timers;
mod volumes;

pub(crate) use exports::ExportFault;
pub(crate) use forget::NotForgotten;
pub use listen::ListenError;
pub(crate) use listen::Listener;
pub(crate) use mailbox::Mailbox;
pub(crate) use message::{Asked, ImageFault, Message, Question, Reply, StoreAnswer};
pub(crate) use overlay::Detached;
pub(crate) use redirect::Way;
pub use run::ReactorError;
pub(crate) use run::{Reactor, ReactorSetup, guarded};
pub(crate) use service::Service;
pub(crate) use snapshot::{PoolLook, Snapshot, VolumeLook};
