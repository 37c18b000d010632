//! What every config store promises (design section 8), asked of all three: the same suite over the file, the arbiter
//! with real TLS and real connections that break, and three real members of etcd that are killed.

mod arbiter;
mod door;
mod etcd;
mod history;
mod local;
mod members;
mod newer;
mod proxy;
mod raw;
mod records;
mod removed;
mod setters;
mod suite;
mod tls;
