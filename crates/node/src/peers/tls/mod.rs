//! TLS 1.3 with certificates on both sides, on connections between nodes.
//!
//! rustls makes the handshake, with its own checks of certificates; then its keys go to a record layer of ours, since
//! the library's allocates for every record, and the steady state of a mirrored write must not.
//!
//! ```text
//!  handshake (rustls, blocking, within the greeting's time) ──keys──▶ Records: seal and open in place, in two buffers
//! ```

mod handshake;
mod keys;
mod records;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use dyad_cluster::Name;
use dyad_store::{ConfigError, Shown, Tls};
use dyad_units::NodeId;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{AlertDescription, CertificateError, ClientConfig, ServerConfig};

pub(crate) use handshake::{accept, connect};
pub(crate) use records::Records;

/// What this node shows the others, and whom it believes.
pub(crate) struct PeerTls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl PeerTls {
    pub(crate) fn new(tls: &Tls) -> Result<Self, ConfigError> {
        let (client, server) = tls.for_records()?;
        Ok(Self { client, server })
    }
}

/// No connection came of it, or it is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("it does not answer")]
    Socket(#[from] io::Error),
    #[error("{}", explain(.0))]
    Handshake(rustls::Error),
    #[error("the other side ended the connection: {}", explain_alert(*.0))]
    Alert(AlertDescription),
    #[error("the other side does not use TLS: set `peer.tls` and certificates alike on all nodes")]
    Plain,
    #[error("its certificate is of another name than `{0}`: each node needs a certificate with its own `node_name`")]
    OtherName(Name),
    #[error("its certificate is of another node than {0}, which may have had the same name: let the machine join anew")]
    OtherNode(NodeId),
    #[error("`{0}` is no name that a certificate can have: choose a `node_name` of letters, digits and `-`")]
    NoName(Name),
    #[error("what came over TLS was changed on its way, or is not of the other node")]
    Damaged,
    #[error("the handshake is longer than any between two nodes")]
    TooLong,
}

/// The name that a node's certificate must have.
pub(crate) fn server_name(name: &Name) -> Result<ServerName<'static>, TlsError> {
    match ServerName::try_from(name.as_str().to_owned()) {
        Ok(found @ ServerName::DnsName(_)) => Ok(found),
        _ => Err(TlsError::NoName(name.clone())),
    }
}

/// Whether the certificate is of the node with this name; the authority's signature was verified in the handshake.
pub(crate) fn check_name(certificate: &CertificateDer<'_>, name: &Name) -> Result<(), TlsError> {
    let other = || TlsError::OtherName(name.clone());
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| other())?;
    verify_server_name(&parsed, &server_name(name)?).map_err(|_| other())
}

/// Whether the certificate is of the node with this id, if it says of which.
pub(crate) fn check_id(certificate: &CertificateDer<'_>, node: NodeId) -> Result<(), TlsError> {
    match Shown::of(certificate) {
        Ok(shown) if shown.node.is_none_or(|shown| shown == node) => Ok(()),
        _ => Err(TlsError::OtherNode(node)),
    }
}

fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not of this cluster's authority".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is of another node: each node needs one with its own `node_name`".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has run out, or the clocks of the nodes differ".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: do the clocks of the nodes differ?".into()
            }
            other => format!("its certificate cannot be used: {other}"),
        },
        rustls::Error::NoCertificatesPresented => "it showed no certificate".into(),
        rustls::Error::AlertReceived(alert) => {
            format!("the other side ended the connection: {}", explain_alert(*alert))
        }
        other => format!("TLS failed: {other}"),
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it does not know the authority of this node's certificate".into()
        }
        AlertDescription::CertificateExpired => "this node's certificate has run out, or the clocks differ".into(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not accept this node's certificate".into(),
        AlertDescription::CertificateRequired => "it wants a certificate, and this node showed none".into(),
        AlertDescription::CloseNotify => "it closed it".into(),
        other => format!("TLS alert {other:?}"),
    }
}
