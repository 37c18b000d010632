//! `dyad cluster init`, `node token` and `node join`, for real. A machine that joined a cluster whose etcd wants a password was
//! told to get it by hand, and did not start before.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::common::{Done, program, run, shm};
use crate::members::{Members, program as etcd};
use crate::records::eventually;
use crate::running::Running;

const PASSWORD: &str = "correct-horse-battery";

/// A machine with a directory for everything.
struct Machine {
    dir: tempfile::TempDir,
    shm: tempfile::TempDir,
    name: &'static str,
    peer: String,
}

impl Machine {
    fn new(name: &'static str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = free.local_addr().unwrap().to_string();
        Self { dir: tempfile::tempdir().unwrap(), shm: shm(), name, peer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes it a node by this command.
    fn make(&self, args: &[&str]) -> Done {
        let mut command = program();
        command.args(args).args(["--name", self.name, "--peer-listen", &self.peer]);
        command.arg("--dir").arg(self.dir.path()).arg("--data-dir").arg(self.path("data"));
        let done = run(command);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
        // What a machine of its own need not set.
        let (path, shm) = (self.dir.path().display(), self.shm.path().display());
        self.set(&format!(
            "shm_dir = \"{shm}\"\nbuffers = \"64 MiB\"\niscsi.portals = [\"127.0.0.1:0\"]\napi.socket = \"{path}/dyad.sock\"\n"
        ));
        done
    }

    /// Adds lines to the configuration.
    fn set(&self, lines: &str) {
        let path = self.path("dyad.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text + lines).unwrap();
    }

    fn serve(&self) -> Running {
        let mut command = program();
        command.args(["serve", "--config"]).arg(self.path("dyad.toml"));
        Running::start(command)
    }

    fn ask(&self, line: &str) -> Done {
        let mut command = program();
        command.arg("--socket").arg(self.path("dyad.sock")).args(line.split(' '));
        run(command)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A user who may do everything below `/dyad/`, and nobody who may do anything without a password.
fn want_passwords(members: &Members) {
    let ask = |path: &str, body: &str| eventually("etcd takes users", || members.ask(0, path, body));
    for name in ["root", "dyad"] {
        ask("/v3/auth/user/add", &format!("{{\"name\": \"{name}\", \"password\": \"{PASSWORD}\"}}"));
        ask("/v3/auth/role/add", &format!("{{\"name\": \"{name}\"}}"));
        ask("/v3/auth/user/grant", &format!("{{\"user\": \"{name}\", \"role\": \"{name}\"}}"));
    }
    // "/dyad/" to "/dyad0": all that starts with "/dyad/".
    let all = "{\"permType\": \"READWRITE\", \"key\": \"L2R5YWQv\", \"range_end\": \"L2R5YWQw\"}";
    ask("/v3/auth/role/grant", &format!("{{\"name\": \"dyad\", \"perm\": {all}}}"));
    ask("/v3/auth/enable", "{}");
}

#[test]
fn a_machine_that_joins_gets_the_password_of_etcds_user_and_nobody_else_does() {
    let Some(etcd) = etcd() else { return };
    let members = Members::start(&etcd, 1, None);
    want_passwords(&members);
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    one.make(&["cluster", "init", "--etcd", &members.urls()[0]]);
    let kept = one.path("password");
    fs::write(&kept, format!("{PASSWORD}\n")).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    one.set(&format!("store.user = \"dyad\"\nstore.password_file = \"{}\"\n", kept.display()));
    let first = one.serve();
    let token = eventually("a token", || {
        let told = one.ask("node token").out;
        told.split_whitespace().find(|word| word.starts_with("dyad1:")).map(str::to_owned)
    });
    let joined = two.make(&["node", "join", &token]);
    assert!(!joined.out.contains(PASSWORD), "{}", joined.out);
    let file = two.path("etcd-password");
    assert_eq!((mode(&file), fs::read_to_string(&file).unwrap().trim()), (0o600, PASSWORD));
    let config = fs::read_to_string(two.path("dyad.toml")).unwrap();
    assert!(config.contains("store.user = \"dyad\"") && !config.contains(PASSWORD), "{config}");
    let second = two.serve();
    for machine in [&one, &two] {
        eventually("both nodes are connected", || {
            let told = machine.ask("node list").out;
            let is_there =
                |name: &str| told.lines().any(|line| line.starts_with(name) && !line.contains("not connected"));
            (is_there("one") && is_there("two")).then_some(())
        });
    }
    for node in [second, first] {
        node.signal(Signal::TERM);
        let (status, out, err) = node.end();
        assert_eq!(status, Some(0), "{err}");
        assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "{out}{err}");
    }
}
