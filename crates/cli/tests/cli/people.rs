//! What people see: pictures of tables, errors and help texts.

use crate::common::{Stage, program, run};

#[test]
fn the_glance_says_first_what_is_not_redundant() {
    insta::assert_snapshot!(Stage::busy().tells(&["status"]));
}

#[test]
fn the_glance_at_an_empty_node_says_how_to_go_on() {
    insta::assert_snapshot!(Stage::empty().tells(&["status"]));
}

#[test]
fn tables_of_all_objects() {
    let stage = Stage::busy();
    let mut all = String::new();
    for object in ["pool", "disk", "volume", "image", "session", "node"] {
        all.push_str(&format!("$ dyad {object} list\n{}\n", stage.tells(&[object, "list"])));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn one_of_each_object() {
    let stage = Stage::busy();
    let image = "00000000-0000-0000-0000-000000000010";
    let mut all = String::new();
    for (object, name) in [
        ("pool", "b"),
        ("disk", "/srv/a.pool"),
        ("volume", "vm1"),
        ("image", image),
        ("session", "7"),
        ("node", "node-1"),
    ] {
        all.push_str(&format!("$ dyad {object} show {name}\n{}\n", stage.tells(&[object, "show", name])));
    }
    insta::assert_snapshot!(all);
    assert_eq!(stage.tells(&["node", "show"]), stage.tells(&["node", "show", "node-1"]));
}

#[test]
fn a_pool_and_a_volume_live_and_die() {
    let stage = Stage::empty();
    let mut told = String::new();
    let secret = stage.secret("secret", "a long enough secret\n");
    for line in [
        "pool create fast --disk /dev/sdx",
        "pool create file --disk /srv/f.pool --size 10GiB --atomic-4k",
        "volume create vm 1GiB --pool fast --pool file",
        &format!("volume create db --size 1GiB --pool file --chap-user db --chap-secret-file {}", secret.display()),
        "pool open fast",
        "volume delete vm --yes",
        "volume delete db --yes --force",
        "pool list",
    ] {
        let out = stage.tells(&line.split(' ').collect::<Vec<_>>());
        told.push_str(&format!("$ dyad {line}\n{out}").replace(&*secret.to_string_lossy(), "FILE"));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn images_and_owners_change_in_use() {
    let stage = Stage::busy();
    let mut told = String::new();
    for line in [
        "image add vm1 --node node-1 --pool c",
        "image move vm1 a --pool c",
        "image detach vm1 node-1/b",
        "image export vm1 b",
        "image unexport vm1 b",
        "image reattach vm1 b",
        "image loss vm1 b",
        "image remove vm1 b --yes",
        "volume move-owner vm1 --to two",
        "volume prefer-owner vm1 two --automatic-after 60",
        "volume promote vm2 --image b --yes-lose-data",
        "volume forget-reservations vm2 --yes-lose-reservations",
    ] {
        told.push_str(&format!("$ dyad {line}\n{}", stage.tells(&line.split(' ').collect::<Vec<_>>())));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn errors_say_what_failed_and_what_to_do() {
    let stage = Stage::busy();
    let mut told = String::new();
    for line in [
        "volume show none",
        "volume create vm9 1GiB --pool none",
        "volume create vm1 1 --pool a",
        "volume create Vm 1GiB --pool a",
        "volume delete vm1 --yes",
        "volume delete vm1",
        "pool open none",
        "pool delete a --yes",
        "pool create a --disk /dev/sdx",
        "image add none",
        "image detach vm1 nowhere",
        "image detach vm1 node-1",
        "image remove vm2 b --yes",
        "volume promote vm2 --image b",
        "volume forget-reservations vm2",
        "session delete 99",
        "status --check",
        "volume create v 1GB --pool a",
        "volume create v --pool a",
        "volume create v 1GiB --size 1GiB --pool a",
        "volume crate",
    ] {
        let done = stage.dyad(&line.split(' ').collect::<Vec<_>>());
        let out = if done.out.is_empty() || done.code == 5 { "" } else { &done.out };
        told.push_str(&format!("$ dyad {line}\n{out}{}-> {}\n\n", done.err, done.code));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_session_is_named_by_its_node_where_its_number_means_several() {
    let stage = Stage::with_twins();
    let refused = stage.dyad(&["session", "delete", "7"]);
    assert!(refused.code != 0 && refused.err.contains("`node-1:7` or `node-2:7`"), "{}", refused.err);
    assert!(stage.tells(&["session", "show", "node-2:7"]).contains("node-2"));
    stage.tells(&["session", "delete", "node-2:7"]);
    assert!(stage.tells(&["session", "show", "7"]).contains("node-1"));
}

#[test]
fn where_no_node_listens_the_command_says_how_to_reach_one() {
    for place in [["--socket", "/nonexistent/dyad.sock"], ["--url", "http://127.0.0.1:1"]] {
        let mut command = program();
        command.args(place).arg("status");
        let done = run(command);
        assert_eq!(done.code, 3);
        assert!(done.err.contains("no node can be reached at") && done.err.contains("dyad serve"), "{}", done.err);
    }
}

#[test]
fn the_command_line_is_described() {
    let mut all = String::new();
    for line in [
        "--help",
        "status --help",
        "serve --help",
        "arbiter --help",
        "arbiter seed --help",
        "quickstart --help",
        "pool create --help",
        "volume create --help",
        "volume delete --help",
        "config --help",
    ] {
        let mut command = program();
        command.args(line.split(' '));
        let done = run(command);
        assert_eq!((done.code, done.err.as_str()), (0, ""));
        all.push_str(&format!("$ dyad {line}\n{}\n", done.out));
    }
    insta::assert_snapshot!(all);
}
