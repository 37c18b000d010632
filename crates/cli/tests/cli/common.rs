//! The program against a fake node, through a real socket.

#[path = "../../../api/tests/fake/mod.rs"]
pub mod fake;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use dyad_api::{Desk, Guard, Listener, Server, TokenHash};

/// A fake node that listens.
pub struct Stage {
    _runtime: tokio::runtime::Runtime,
    pub dir: tempfile::TempDir,
    pub url: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The token of the fake node's TCP listener.
pub const TOKEN: &str = "the token of the test";

impl Stage {
    pub fn with(node: fake::FakeNode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("dyad.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let desk = Desk::new(Arc::new(node));
        let (unix, tcp) = runtime.block_on(async {
            let unix = tokio::net::UnixListener::bind(&socket).unwrap();
            (unix, tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
        });
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let guard = Guard::Token(TokenHash::of(TOKEN));
        runtime.spawn(Server::new(Listener::Unix(unix), Guard::FileMode, desk.clone()).run(std::future::pending()));
        runtime.spawn(Server::new(Listener::Tcp(tcp), guard, desk).run(std::future::pending()));
        Self { _runtime: runtime, dir, url }
    }

    pub fn busy() -> Self {
        Self::with(fake::FakeNode::busy())
    }

    pub fn with_twins() -> Self {
        Self::with(fake::FakeNode::with_twins())
    }

    pub fn empty() -> Self {
        Self::with(fake::FakeNode::empty())
    }

    /// Runs the program against the socket.
    pub fn dyad(&self, args: &[&str]) -> Done {
        let mut command = program();
        command.arg("--socket").arg(self.dir.path().join("dyad.sock")).args(args);
        run(command)
    }

    /// The same, and it must succeed.
    pub fn tells(&self, args: &[&str]) -> String {
        let done = self.dyad(args);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{args:?}\n{}", done.out);
        done.out
    }

    /// A file in the stage's directory that only its owner reads.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// A directory in memory for the logs of a real node, gone after the test.
pub fn shm() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("dyad-test-").tempdir_in("/dev/shm").unwrap()
}

/// The program, in an environment that is the same everywhere.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dyad"));
    command.env_clear().env("COLUMNS", "100").current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Done {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Done {
        code: status.code().expect("it was not killed"),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
