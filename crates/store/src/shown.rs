//! Whose a certificate is: the names in it, and the id of the node that it was made for.
//!
//! A node's name may be used again after the node was removed; its id never is. Certificates of the cluster's own authority
//! therefore have the id as a second name, so that who was removed is told from who came after it under the same name.

use dyad_units::NodeId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use webpki::EndEntityCert;

use crate::error::ConfigError;

/// Follows the id in a certificate: a domain that nobody can register.
const DOMAIN: &str = ".node.dyad.internal";

/// Who a certificate is made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// The names, but for the one that tells the id.
    pub names: Vec<String>,
    /// The node; none: the authority that made it does not know of ids.
    pub node: Option<NodeId>,
}

impl Shown {
    /// Whose certificate this is. Nothing is verified: that it is of the cluster's authority was, in the handshake.
    ///
    /// # Errors
    /// [`ConfigError::Tls`]: it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, ConfigError> {
        let parsed = EndEntityCert::try_from(certificate).map_err(wrong)?;
        let mut shown = Self { names: Vec::new(), node: None };
        for name in parsed.valid_dns_names() {
            match name.strip_suffix(DOMAIN).and_then(|id| id.parse().ok()) {
                Some(node) => shown.node = Some(node),
                None => shown.names.push(name.to_owned()),
            }
        }
        Ok(shown)
    }

    /// The same of one in a file; the first, if there are several.
    ///
    /// # Errors
    /// [`ConfigError::Tls`].
    pub fn in_pem(pem: &[u8]) -> Result<Self, ConfigError> {
        Self::of(&CertificateDer::from_pem_slice(pem).map_err(wrong)?)
    }

    pub(crate) fn name_of(node: NodeId) -> String {
        format!("{node}{DOMAIN}")
    }
}

fn wrong(error: impl ToString) -> ConfigError {
    ConfigError::Tls { reason: format!("the certificate: {}", error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, NewKey};

    #[test]
    fn a_certificate_tells_name_and_id_of_its_node() {
        let (authority, _) = Authority::create().unwrap();
        let node = NodeId::from_bytes([0x5e; 16]);
        let made = authority.issue_node("one", node).unwrap();
        let shown = Shown { names: vec!["one".into()], node: Some(node) };
        assert_eq!(Shown::in_pem(made.certificate.as_bytes()).unwrap(), shown);
        let signed = authority.sign_node("one", node, NewKey::create().unwrap().public()).unwrap();
        assert_eq!(Shown::in_pem(signed.as_bytes()).unwrap(), shown);
        let plain = authority.issue("one", &["192.0.2.1".parse().unwrap()]).unwrap();
        let shown = Shown { names: vec!["one".into()], node: None };
        assert_eq!(Shown::in_pem(plain.certificate.as_bytes()).unwrap(), shown);
        assert!(Shown::in_pem(b"none").is_err());
    }
}
