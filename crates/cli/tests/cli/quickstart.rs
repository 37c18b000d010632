//! `dyad quickstart`, for real.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Done, program, run, shm};
use crate::running::Running;

fn quickstart(dir: &Path, port: u16, shm: &TempDir) -> Command {
    let mut command = program();
    command.arg("quickstart").arg("--shm-dir").arg(shm.path());
    command.args(["--size", "16MiB", "--port", &port.to_string(), "--dir"]).arg(dir);
    command
}

fn ask(dir: &Path, args: &[&str]) -> Done {
    let mut command = program();
    command.arg("--socket").arg(dir.join("dyad.sock")).args(args);
    run(command)
}

fn volume(dir: &Path) -> Value {
    let done = ask(dir, &["volume", "show", "demo", "--json"]);
    serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{done:?}"))
}

#[test]
fn it_serves_says_how_to_use_it_ends_cleanly_and_goes_on() {
    let (top, shm) = (tempfile::tempdir().unwrap(), shm());
    let dir = top.path().join("data");
    let mut node = Running::start(quickstart(&dir, 0, &shm));
    let said = node.until("demo  redundant? yes: 2 images in-sync; no host is logged in").to_owned();
    for words in [
        "portal  127.0.0.1:",
        ":demo  (16 MiB, 2 images)",
        "iscsiadm -m discovery",
        "qemu-img info iscsi://",
        "iscsi-perf",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let made = volume(&dir);
    assert_eq!(
        made["images"].as_array().unwrap().iter().map(|image| &image["pool"]).collect::<Vec<_>>(),
        ["a", "two/b"]
    );
    assert_eq!(ask(&dir, &["status", "--check"]).code, 0);

    let (second, _, why) = Running::start(quickstart(&dir, 0, &shm)).end();
    assert_eq!(second, Some(1));
    assert!(why.contains("a quickstart is already running in"), "{why}");

    node.signal(Signal::INT);
    let (code, said, why) = node.end();
    assert_eq!((code, why.as_str()), (Some(0), ""));
    assert!(said.contains("Everything is on disk; `dyad quickstart --dir"), "{said}");
    assert!(!dir.join("dyad.sock").exists());

    // Killed, it starts again all the same: nothing of the killed process is in the way.
    let mut node = Running::start(quickstart(&dir, 0, &shm));
    node.until("no host is logged in");
    assert_eq!(volume(&dir)["id"], made["id"]);
    node.signal(Signal::KILL);
    assert_eq!(node.end().0, None);
    let mut node = Running::start(quickstart(&dir, 0, &shm));
    node.until("no host is logged in");
    assert_eq!(volume(&dir)["id"], made["id"]);
    node.signal(Signal::TERM);
    assert_eq!(node.end().0, Some(0));
}

/// What its user deleted is not made again.
#[test]
fn it_makes_the_volume_only_once() {
    let (top, shm) = (tempfile::tempdir().unwrap(), shm());
    let mut node = Running::start(quickstart(top.path(), 0, &shm));
    node.until("no host is logged in");
    assert_eq!(ask(top.path(), &["volume", "delete", "demo", "--yes"]).code, 0);
    node.signal(Signal::INT);
    assert_eq!(node.end().0, Some(0));
    let mut node = Running::start(quickstart(top.path(), 0, &shm));
    node.until("There is no volume any more");
    node.until("Ctrl-C ends it");
    node.signal(Signal::HUP);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_taken_port_is_passed_over_and_said() {
    let (top, shm) = (tempfile::tempdir().unwrap(), shm());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut node = Running::start(quickstart(top.path(), port, &shm));
    let said = node.until("Ctrl-C ends it").to_owned();
    assert!(said.starts_with(&format!("Port {port} is taken by another program, so this node listens on ")), "{said}");
    assert!(!said.contains(&format!("portal  127.0.0.1:{port}\n")), "{said}");
    node.signal(Signal::INT);
    assert_eq!(node.end().0, Some(0));
}

#[test]
fn a_foreign_directory_and_too_little_space_are_said_and_nothing_is_made() {
    let (top, shm) = (tempfile::tempdir().unwrap(), shm());
    fs::write(top.path().join("thesis.txt"), "precious").unwrap();
    let done = run(quickstart(top.path(), 0, &shm));
    assert_eq!((done.code, done.out.as_str()), (1, ""));
    assert!(
        done.err.contains("holds files that are not of a quickstart") && done.err.contains("--dir"),
        "{}",
        done.err
    );
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);

    // Broke once (review): it started two nodes and tried for a minute to make the volume, without a word.
    for size in ["0", "1000"] {
        let mut odd = program();
        odd.args(["quickstart", "--size", size, "--port", "0", "--dir"]).arg(top.path().join("odd"));
        let done = run(odd);
        assert!(done.code == 2 && done.err.contains("a multiple of 4 KiB"), "{done:?}");
        assert!(!top.path().join("odd").exists());
    }

    let mut huge = program();
    huge.args(["quickstart", "--size", "900TiB", "--port", "0", "--dir"]).arg(top.path().join("new"));
    let done = run(huge);
    assert_eq!(done.code, 1);
    assert!(
        done.err.contains("free, but two pools for a volume of 900 TiB need") && done.err.contains("--size"),
        "{}",
        done.err
    );
}

/// A path longer than the kernel allows for a socket must not end in a riddle.
#[test]
fn a_directory_too_deep_for_a_socket_is_said() {
    let (top, shm) = (tempfile::tempdir().unwrap(), shm());
    let done = run(quickstart(&top.path().join("x".repeat(100)), 0, &shm));
    assert_eq!(done.code, 1);
    assert!(done.err.contains("too long for a socket"), "{}", done.err);
}
