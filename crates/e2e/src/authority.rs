//! An authority whose certificates the members of a cluster show each other.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dyad_store::Tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Signs certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of one member: `NAME.ca`, `NAME.pem`, `NAME.key`.
#[derive(Debug)]
pub struct Files {
    stem: PathBuf,
}

impl Authority {
    /// A new one.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "lab");
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// A certificate for a name, and what its owner needs to use it, in a directory.
    pub fn sign(&self, name: &str, dir: &Path) -> anyhow::Result<Files> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let files = Files { stem: dir.join(name) };
        fs::write(files.path("ca"), &self.pem)?;
        fs::write(files.path("pem"), certificate.pem())?;
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(files.path("key"))?;
        file.write_all(key.serialize_pem().as_bytes())?;
        Ok(files)
    }
}

impl Files {
    /// One of the files: `ca`, `pem` or `key`.
    pub fn path(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem.display())
    }

    /// All of them.
    pub fn read(&self) -> anyhow::Result<Tls> {
        let read = |extension: &str| fs::read(self.path(extension));
        Ok(Tls { authority: read("ca")?, certificate: read("pem")?, key: read("key")? })
    }
}
