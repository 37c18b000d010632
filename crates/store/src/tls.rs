//! Mutual TLS between a node and its config store, and between nodes: both show a certificate of the cluster's authority.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::ConfigError;

/// What one side shows and whom it believes, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority whose certificates are believed.
    pub authority: Vec<u8>,
    /// Our certificate, and those between it and the authority.
    pub certificate: Vec<u8>,
    /// The certificate's private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).map_err(wrong)?;
        let (chain, key) = self.identity()?;
        let config = config.with_root_certificates(self.roots()?);
        Ok(Arc::new(config.with_client_auth_cert(chain, key).map_err(wrong)?))
    }

    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| ConfigError::Tls { reason: error.to_string() })?;
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).map_err(wrong)?;
        let (chain, key) = self.identity()?;
        let mut config = config.with_client_cert_verifier(verifier).with_single_cert(chain, key).map_err(wrong)?;
        // Connections live long: tickets would only cost memory.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// For connections between nodes: the same checks, but the keys of a connection can be taken out, for a record layer
    /// of the caller's own.
    ///
    /// # Errors
    /// [`ConfigError::Tls`].
    pub fn for_records(&self) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), ConfigError> {
        let (mut client, mut server) = (self.client()?, self.server()?);
        let dial = Arc::make_mut(&mut client);
        dial.enable_secret_extraction = true;
        dial.resumption = Resumption::disabled();
        Arc::make_mut(&mut server).enable_secret_extraction = true;
        Ok((client, server))
    }

    /// For machines that have no certificate yet: shows the authority as well, asks for nothing.
    ///
    /// # Errors
    /// [`ConfigError::Tls`].
    pub fn for_strangers(&self) -> Result<Arc<ServerConfig>, ConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).map_err(wrong)?;
        let (mut chain, key) = self.identity()?;
        chain.extend(certificates(&self.authority, "authority")?);
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).map_err(wrong)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority, "authority")? {
            roots.add(certificate).map_err(wrong)?;
        }
        Ok(roots)
    }

    fn identity(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|error| ConfigError::Tls { reason: format!("the private key: {error}") })?;
        Ok((certificates(&self.certificate, "certificate")?, key))
    }
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| ConfigError::Tls { reason: format!("the {what}: {error}") })?;
    if found.is_empty() {
        return Err(ConfigError::Tls { reason: format!("the {what} holds no certificate") });
    }
    Ok(found)
}

fn wrong(error: rustls::Error) -> ConfigError {
    ConfigError::Tls { reason: error.to_string() }
}
