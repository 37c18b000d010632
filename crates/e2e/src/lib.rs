//! Real processes on reserved loopback ports, for the end-to-end tests, the conformance run and the benchmarks.
//!
//! Everything started here is a guard: dropping it, also while a test panics, ends the process by its id and frees
//! its port. If the test process itself is killed, the kernel ends the children (`setpriv --pdeathsig`).
//! Nothing sleeps for a state; everything waits for it with a limit and says what it waited for.

pub mod admin;
pub mod arbiter;
pub mod authority;
pub mod bridge;
pub mod chaos;
pub mod cluster;
pub mod conformance;
pub mod crash;
pub mod device;
pub mod host;
pub mod lab;
pub mod net;
pub mod port;
pub mod process;
pub mod procfs;
pub mod scenario;
pub mod target;
pub mod tgt;
pub mod tools;
pub mod wait;

pub use device::LoopDevice;
pub use lab::{Lab, Unit, Volume};
pub use port::Port;
pub use process::{Finished, Running, finish};
pub use target::Target;
pub use tgt::Tgt;
