//! Makes the messages and clients of etcd's API from our own description of it, without protoc.

use std::error::Error;

const PROTO: &str = "proto/etcd.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let described = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure().build_server(false).build_transport(false).compile_fds(described)?;
    Ok(())
}
