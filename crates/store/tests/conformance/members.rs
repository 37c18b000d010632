//! Real members of etcd on loopback, started, stopped, killed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Protocol, Socket, Type};

use super::records::eventually;

/// Where etcd is, if it is installed. Where it has to be, `DYAD_TOOLS=required` says so.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file());
    if found.is_none() {
        let is_required = std::env::var("DYAD_TOOLS").is_ok_and(|value| value == "required");
        assert!(!is_required, "etcd is not installed, though DYAD_TOOLS=required");
        println!("skipped: etcd is not installed (apt-get install etcd-server)");
    }
    found
}

/// Members of one cluster.
pub struct Members {
    members: Vec<Member>,
    _ports: [Socket; 6],
    _dir: tempfile::TempDir,
}

struct Member {
    command: Command,
    /// For clients, without TLS.
    port: u16,
    process: Option<Child>,
}

/// What clients have to show at a second port.
pub struct Secured<'a> {
    pub authority: &'a Path,
    pub certificate: &'a Path,
    pub key: &'a Path,
    pub port: u16,
}

/// Free ports. They stay free for whoever listens on them, as long as the sockets live: bound with SO_REUSEADDR, no
/// connection that goes out gets one.
pub fn ports<const N: usize>() -> ([u16; N], [Socket; N]) {
    let held = std::array::from_fn(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket
    });
    (held.each_ref().map(|socket| socket.local_addr().unwrap().as_socket().unwrap().port()), held)
}

impl Members {
    /// Starts `count` members, with a door of their own for clients with certificates if there is one alone.
    pub fn start(program: &Path, count: usize, secured: Option<&Secured<'_>>) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let (ports, held) = ports::<6>();
        let peer = |at: usize| format!("http://127.0.0.1:{}", ports[3 + at]);
        let all: Vec<_> = (0..count).map(|at| format!("m{at}={}", peer(at))).collect();
        let member = |at: usize| {
            let plain = format!("http://127.0.0.1:{}", ports[at]);
            let mut command = Command::new(program);
            command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.args(["--name", &format!("m{at}"), "--data-dir"]).arg(dir.path().join(at.to_string()));
            command.args(["--listen-peer-urls", &peer(at), "--initial-advertise-peer-urls", &peer(at)]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            let urls = match secured {
                Some(secured) => {
                    command.arg("--cert-file").arg(secured.certificate).arg("--key-file").arg(secured.key);
                    command.arg("--trusted-ca-file").arg(secured.authority).arg("--client-cert-auth");
                    format!("{plain},https://127.0.0.1:{}", secured.port)
                }
                None => plain,
            };
            command.args(["--listen-client-urls", &urls, "--advertise-client-urls", &urls]);
            Member { command, port: ports[at], process: None }
        };
        let mut members = Self { members: (0..count).map(member).collect(), _ports: held, _dir: dir };
        (0..count).for_each(|at| members.restart(at));
        members
    }

    pub fn restart(&mut self, at: usize) {
        let member = &mut self.members[at];
        assert!(member.process.is_none());
        member.process = Some(member.command.spawn().unwrap());
    }

    pub fn kill(&mut self, at: usize) {
        let mut process = self.members[at].process.take().unwrap();
        let _ = process.kill();
        let _ = process.wait();
    }

    /// Stops it without a word, or lets it go on.
    pub fn pause(&self, at: usize, is_paused: bool) {
        let process = self.members[at].process.as_ref().unwrap();
        kill_process(Pid::from_child(process), if is_paused { Signal::STOP } else { Signal::CONT }).unwrap();
    }

    pub fn port(&self, at: usize) -> u16 {
        self.members[at].port
    }

    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://127.0.0.1:{}", member.port)).collect()
    }

    /// Which one the others follow.
    pub fn first(&self) -> usize {
        eventually("the members agree on the first among them", || {
            (0..self.members.len()).filter(|&at| self.members[at].process.is_some()).find(|&at| {
                self.ask(at, "/v3/maintenance/status", "{}").is_some_and(|answer| {
                    let me = field(&answer, "member_id");
                    me.is_some() && me == field(&answer, "leader")
                })
            })
        })
    }

    /// Asks a member over its JSON door.
    pub fn ask(&self, at: usize, path: &str, body: &str) -> Option<String> {
        self.ask_as(at, path, body, "")
    }

    /// The same, as the user whose token it is.
    pub fn ask_as(&self, at: usize, path: &str, body: &str, token: &str) -> Option<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.members[at].port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let len = body.len();
        let who = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        let head = format!("POST {path} HTTP/1.0\r\nHost: etcd\r\n{who}Content-Length: {len}\r\n\r\n");
        socket.write_all((head + body).as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(answer)
    }
}

/// A number of an answer in JSON, which etcd writes as text.
pub fn field(answer: &str, name: &str) -> Option<String> {
    let rest = answer.split_once(&format!("\"{name}\":\""))?.1;
    Some(rest.split_once('"')?.0.to_owned())
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}
