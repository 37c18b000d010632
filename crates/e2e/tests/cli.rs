//! The command line against a node that serves: what an administrator and a program see.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dyad_bench::disk::Disk;
use dyad_e2e::{Lab, Target as _, lab, wait};
use serde_json::Value;

/// The program, told where the node is.
fn dyad(lab: &Lab, args: &[&str]) -> Output {
    let mut command = Command::new(lab::binary().unwrap());
    command.env("DYAD_SOCKET", lab.path("admin.sock")).args(args).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that must succeed prints.
fn tells(lab: &Lab, args: &[&str]) -> String {
    let output = dyad(lab, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn json(lab: &Lab, args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    let text = tells(lab, &all);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

/// Exit status and message of a command that must fail.
fn fails(lab: &Lab, args: &[&str]) -> (i32, String) {
    let output = dyad(lab, args);
    assert!(!output.status.success(), "{args:?}: {}", text(&output.stdout));
    (output.status.code().unwrap(), text(&output.stderr))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

/// A node whose two pools were made by the command line.
fn node_with_pools() -> Lab {
    let mut lab = Lab::new("").unwrap();
    lab.start().unwrap();
    for pool in ["a", "b"] {
        let file = lab.pool_file(pool);
        let disk = file.to_string_lossy();
        let made = json(&lab, &["pool", "create", pool, "--disk", &disk, "--size", "256MiB"]);
        assert_eq!(made["name"], pool, "{made}");
    }
    lab
}

#[test]
fn a_volume_is_made_listed_shown_used_and_deleted_by_programs() {
    let lab = node_with_pools();
    let made = json(&lab, &["volume", "create", "v", "--size", "64MiB", "--pool", "a", "--pool", "b"]);
    assert_eq!((&made["name"], &made["size_bytes"]), (&"v".into(), &(64_u64 << 20).into()));
    let shown = json(&lab, &["volume", "show", "v"]);
    assert_eq!(shown["target"], made["target"]);
    assert_eq!(shown["redundancy"]["state"], "redundant", "{shown}");
    assert_eq!(names(&json(&lab, &["volume", "list"])), ["v"]);
    assert_eq!(json(&lab, &["image", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(json(&lab, &["disk", "list"]).as_array().unwrap().len(), 2);

    let unit = lab.unit("v").unwrap();
    assert_eq!(shown["target"], unit.iqn());
    let mut disk = Disk::open(&unit.options()).unwrap();
    assert_eq!(disk.capacity().bytes(), 64 << 20);
    disk.write(0, vec![7; 1 << 20]).unwrap();
    assert_eq!(json(&lab, &["session", "list"]).as_array().unwrap().len(), 1);

    let (status, said) = fails(&lab, &["volume", "delete", "v", "--yes"]);
    assert_eq!(status, 1);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(disk.read(0, 2048).unwrap(), vec![7; 1 << 20], "a refused deletion harms nothing");
    tells(&lab, &["volume", "delete", "v", "--yes", "--force"]);
    assert!(disk.read(0, 8).is_err(), "the volume is gone, and its session with it");
    assert!(json(&lab, &["volume", "list"]).as_array().unwrap().is_empty());
    assert_eq!(fails(&lab, &["volume", "show", "v"]).0, 4, "there is no such object");
    for pool in ["a", "b"] {
        tells(&lab, &["pool", "delete", pool, "--yes"]);
    }
    assert!(json(&lab, &["pool", "list"]).as_array().unwrap().is_empty());
}

/// A volume that was deleted before its mirror served was refused as in use.
#[test]
fn a_volume_can_be_deleted_as_soon_as_it_was_made_and_a_new_one_holds_nothing_of_it() {
    let lab = node_with_pools();
    let free = |pool: &str| json(&lab, &["pool", "show", pool])["free_bytes"].as_u64().unwrap();
    let before = (free("a"), free("b"));
    for round in 0..8 {
        json(&lab, &["volume", "create", "v", "--size", "32MiB", "--pool", "a", "--pool", "b"]);
        if round % 2 == 1 {
            let mut disk = Disk::open(&lab.unit("v").unwrap().options()).unwrap();
            assert!(disk.read(0, 8192).unwrap().iter().all(|byte| *byte == 0), "bytes of an earlier volume (A5)");
            disk.write(0, vec![round; 4 << 20]).unwrap();
            disk.logout().unwrap();
        }
        tells(&lab, &["volume", "delete", "v", "--yes"]);
    }
    let is_free = || ((free("a"), free("b")) == before).then_some(());
    wait::until("all space is free again", Duration::from_secs(10), is_free).unwrap();
}

#[test]
fn status_answers_whether_the_data_is_redundant_in_words_and_by_the_exit_status() {
    let mut lab = node_with_pools();
    json(&lab, &["volume", "create", "v", "--size", "32MiB", "--pool", "a", "--pool", "b"]);
    let said = tells(&lab, &["status", "--check"]);
    assert!(said.contains("yes: 2 images in-sync"), "{said}");
    assert!(said.lines().count() <= 24, "status fits one screen:\n{said}");
    lab.stop().unwrap();
    assert_eq!(fails(&lab, &["status"]).0, 3, "no node can be reached");
    std::fs::remove_file(lab.pool_file("b")).unwrap();
    lab.start().unwrap();
    let (status, _) = fails(&lab, &["status", "--check"]);
    assert_eq!(status, 5);
    let said = tells(&lab, &["status"]);
    assert!(said.contains("NO: 1 of 2 images in-sync") && said.contains("b.pool"), "{said}");
}

#[test]
fn what_cannot_be_done_is_refused_in_words_and_changes_nothing() {
    let lab = node_with_pools();
    let create = |extra: &[&str]| {
        let mut args = vec!["volume", "create", "v"];
        args.extend_from_slice(extra);
        fails(&lab, &args)
    };
    assert_eq!(create(&["--size", "64MiB", "--pool", "c"]).0, 4);
    assert_eq!(create(&["--size", "64MiB", "--pool", "a", "--pool", "a"]).0, 1);
    assert_eq!(create(&["--size", "0", "--pool", "a"]).0, 1);
    assert_eq!(create(&["--size", "much", "--pool", "a"]).0, 2, "wrong usage");
    let again = lab.pool_file("a");
    let (status, said) = fails(&lab, &["pool", "create", "again", "--disk", &again.to_string_lossy()]);
    assert_eq!(status, 1);
    assert!(said.contains("a.pool"), "{said}");
    assert!(json(&lab, &["volume", "list"]).as_array().unwrap().is_empty());
    assert_eq!(names(&json(&lab, &["pool", "list"])), ["a", "b"]);
}
