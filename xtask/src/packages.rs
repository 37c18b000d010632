//! Debian packages that tests and benchmarks need: installed where that is allowed, named where it is not.

use std::path::Path;
use std::process::{Command, Stdio};

use dyad_e2e::tools;

/// What the packages are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Need {
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask bench`, which also needs the peer to compare with.
    Bench,
}

/// One package and how to see that it is there.
struct Package {
    name: &'static str,
    program: &'static str,
    /// A file that must be there as well.
    file: Option<&'static str>,
}

/// qemu's packages must all have one version, or the iscsi module is not loaded.
const QEMU: [Package; 3] = [
    Package { name: "qemu-utils", program: "qemu-img", file: None },
    Package { name: "qemu-block-extra", program: "qemu-img", file: Some("qemu/block-iscsi.so") },
    Package { name: "qemu-system-common", program: "qemu-storage-daemon", file: None },
];

const OTHERS: [Package; 6] = [
    Package { name: "libiscsi-bin", program: "iscsi-test-cu", file: None },
    Package { name: "fio", program: "fio", file: None },
    Package { name: "sg3-utils", program: "sg_inq", file: None },
    Package { name: "etcd-server", program: "etcd", file: None },
    Package { name: "iproute2", program: "ip", file: None },
    Package { name: "nftables", program: "nft", file: None },
];

const PEER: Package = Package { name: "tgt", program: "tgtd", file: None };

impl Package {
    fn is_installed(&self) -> bool {
        let library = |file: &str| {
            let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
            [triplet.as_str(), "/usr/lib"].iter().any(|dir| Path::new(dir).join(file).exists())
        };
        tools::find(self.program).is_some() && self.file.is_none_or(library)
    }
}

/// Installs what is missing, if it may. True if everything is there afterwards.
pub fn install(need: Need) -> anyhow::Result<bool> {
    let peer = (need == Need::Bench).then_some(&PEER);
    let all: Vec<_> = QEMU.iter().chain(&OTHERS).chain(peer).collect();
    if all.iter().all(|package| package.is_installed()) {
        return Ok(true);
    }
    if let Some(apt) = apt() {
        let missing = || all.iter().filter(|package| !package.is_installed()).map(|package| package.name);
        println!("installing Debian packages: {}", missing().collect::<Vec<_>>().join(" "));
        if candidate(missing().next().unwrap_or_default()).is_empty() {
            run(&apt, &["update", "-q"]);
        }
        let mut wanted: Vec<_> = missing().filter(|name| !name.starts_with("qemu-")).map(str::to_owned).collect();
        if missing().any(|name| name.starts_with("qemu-")) {
            wanted.extend(QEMU.iter().map(|package| match common_version() {
                Some(version) => format!("{}={version}", package.name),
                None => package.name.to_owned(),
            }));
        }
        let mut args = vec!["install", "-y", "-q", "--no-install-recommends", "--allow-downgrades"];
        args.extend(wanted.iter().map(String::as_str));
        if !run(&apt, &args) {
            // The lists may be older than the archive.
            run(&apt, &["update", "-q"]);
            run(&apt, &args);
        }
    }
    let left: Vec<_> = all.iter().filter(|package| !package.is_installed()).map(|package| package.name).collect();
    if !left.is_empty() {
        println!("not installed, and tests that need them are skipped: {}", left.join(" "));
        println!("  install them with: sudo apt-get install {}", left.join(" "));
    }
    Ok(left.is_empty())
}

/// `apt-get` as someone who may use it: root, or sudo without a password.
fn apt() -> Option<Vec<&'static str>> {
    tools::find("apt-get")?;
    let quiet = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    if quiet("id", &["-u"])?.starts_with(b"0\n") {
        return Some(vec!["apt-get"]);
    }
    quiet("sudo", &["-n", "true"]).map(|_| vec!["sudo", "-n", "apt-get"])
}

fn run(apt: &[&str], args: &[&str]) -> bool {
    let mut command = Command::new(apt[0]);
    command.args(&apt[1..]).args(args).stdin(Stdio::null());
    // RUNLEVEL=1 keeps packages from starting their services: tgt's would take the port of iSCSI.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.status().is_ok_and(|status| status.success())
}

/// Versions of a package that the archive offers, newest first.
fn candidate(name: &str) -> Vec<String> {
    let output = Command::new("apt-cache").args(["madison", name]).stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect()
}

/// The newest version that all of qemu's packages have.
fn common_version() -> Option<String> {
    let offers: Vec<_> = QEMU.iter().map(|package| candidate(package.name)).collect();
    let (first, others) = offers.split_first()?;
    first.iter().find(|version| others.iter().all(|offer| offer.contains(version))).cloned()
}
