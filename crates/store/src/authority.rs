//! The cluster's own certificate authority: it signs what nodes and the arbiter show each other.
//!
//! Certificates have no end: one that runs out unseen would stop a cluster, and a node is shut out by its record. The
//! private key of the authority is needed to let nodes in, not to run.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use dyad_units::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::error::ConfigError;
use crate::shown::Shown;

/// What the authority calls itself. Alike for all clusters: it is the key that counts.
const NAME: &str = "Dyad cluster authority";
/// Bytes of a public key of P-256: a point, uncompressed.
pub const PUBLIC_KEY_BYTES: usize = 65;

/// The authority, able to sign.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A private key and what belongs to it, as PEM.
#[derive(Clone)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// A private key that has no certificate yet.
pub struct NewKey(KeyPair);

struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Authority {
    /// A new one, and its private key.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: there is no randomness.
    pub fn create() -> Result<(Self, String), ConfigError> {
        let key = KeyPair::generate().map_err(wrong)?;
        let pem = key.serialize_pem();
        let certificate = params().self_signed(&key).map_err(wrong)?.pem();
        Ok((Self { certificate, issuer: Issuer::new(params(), key) }, pem))
    }

    /// The authority with this certificate and private key, as PEM.
    ///
    /// # Errors
    /// [`ConfigError::Tls`].
    pub fn load(certificate: &str, key: &str) -> Result<Self, ConfigError> {
        let key = KeyPair::from_pem(key).map_err(wrong)?;
        let shown = CertificateDer::from_pem_slice(certificate.as_bytes());
        let shown = shown.map_err(|error| ConfigError::Tls { reason: format!("the authority: {error}") })?;
        // A certificate that is not of this key would sign what nobody believes.
        if !shown.as_ref().windows(PUBLIC_KEY_BYTES).any(|part| part == key.public_key_raw()) {
            return Err(ConfigError::Tls { reason: "the authority's private key is not of its certificate".into() });
        }
        Ok(Self { certificate: certificate.to_owned(), issuer: Issuer::new(params(), key) })
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a key and signs it for a name, and addresses.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: the name cannot be in a certificate.
    pub fn issue(&self, name: &str, addresses: &[IpAddr]) -> Result<Certified, ConfigError> {
        let key = NewKey::create()?;
        let certificate = self.sign(name, addresses, key.public())?;
        Ok(Certified { certificate, key: key.to_pem() })
    }

    /// Makes a key and signs it for a node of this name and id.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: the name cannot be in a certificate.
    pub fn issue_node(&self, name: &str, node: NodeId) -> Result<Certified, ConfigError> {
        let key = NewKey::create()?;
        let certificate = self.sign_node(name, node, key.public())?;
        Ok(Certified { certificate, key: key.to_pem() })
    }

    /// Signs somebody else's key for a node of this name and id; the certificate, PEM.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: the name cannot be in a certificate, or it is no public key.
    pub fn sign_node(&self, name: &str, node: NodeId, public: &[u8]) -> Result<String, ConfigError> {
        self.certify(&[name.to_owned(), Shown::name_of(node)], &[], public)
    }

    /// Signs somebody else's key for a name, and addresses; the certificate, PEM.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: the name cannot be in a certificate, or it is no public key.
    pub fn sign(&self, name: &str, addresses: &[IpAddr], public: &[u8]) -> Result<String, ConfigError> {
        self.certify(&[name.to_owned()], addresses, public)
    }

    /// For these names, the first of which is what it is called by.
    fn certify(&self, names: &[String], addresses: &[IpAddr], public: &[u8]) -> Result<String, ConfigError> {
        let name = names.first().map_or("", String::as_str);
        if !matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) {
            let reason = format!("`{name}` cannot be the name in a certificate: use letters, digits and `-`");
            return Err(ConfigError::Tls { reason });
        }
        if public.len() != PUBLIC_KEY_BYTES || public[0] != 4 {
            return Err(ConfigError::Tls { reason: "this is no public key".into() });
        }
        let mut params = CertificateParams::new(names.to_vec()).map_err(wrong)?;
        params.subject_alt_names.extend(addresses.iter().map(|&address| SanType::IpAddress(address)));
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&Point(public.to_vec()), &self.issuer).map_err(wrong)?.pem())
    }
}

impl NewKey {
    /// A new private key.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: there is no randomness.
    pub fn create() -> Result<Self, ConfigError> {
        KeyPair::generate().map(Self).map_err(wrong)
    }

    /// Its public half, for [`Authority::sign`].
    pub fn public(&self) -> &[u8] {
        self.0.public_key_raw()
    }

    /// The private key, PEM.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }
}

/// SHA-256 of a certificate, by which it is known to those who have not seen it.
///
/// # Errors
/// [`ConfigError::Tls`]: it is no certificate.
pub fn fingerprint(pem: &[u8]) -> Result<[u8; 32], ConfigError> {
    let found = CertificateDer::from_pem_slice(pem);
    found.map(|der| fingerprint_of(&der)).map_err(|error| ConfigError::Tls { reason: error.to_string() })
}

/// The same of a certificate that was shown.
pub fn fingerprint_of(der: &CertificateDer<'_>) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, der).as_ref());
    bytes
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params
}

fn wrong(error: rcgen::Error) -> ConfigError {
    ConfigError::Tls { reason: error.to_string() }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(..)")
    }
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certified(..)")
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_was_kept_signs_like_the_new_one() {
        let (made, key) = Authority::create().unwrap();
        let kept = Authority::load(made.certificate(), &key).unwrap();
        assert_eq!(kept.certificate(), made.certificate());
        assert!(kept.issue("one", &[]).is_ok());
        let (other, _) = Authority::create().unwrap();
        assert!(Authority::load(other.certificate(), &key).is_err());
        let known = |authority: &Authority| fingerprint(authority.certificate().as_bytes()).unwrap();
        assert_ne!(known(&other), known(&made));
    }

    #[test]
    fn what_is_no_name_or_no_key_is_not_signed() {
        let (authority, _) = Authority::create().unwrap();
        let key = NewKey::create().unwrap();
        assert!(authority.sign("one", &[], key.public()).is_ok());
        for name in ["", "a b", "10.0.0.1", "-a", "*"] {
            assert!(authority.sign(name, &[], key.public()).is_err(), "{name}");
        }
        assert!(authority.sign("one", &[], &[4; 64]).is_err());
        assert!(authority.sign("one", &[], &[0; 65]).is_err());
    }
}
